import { Compass } from "lucide-react";
import { Link } from "react-router";
import { Button } from "~/components/Button";
import { EmptyState } from "~/components/EmptyState";
import { useWords } from "~/i18n/language";
import { words } from "~/layout/words";

export function Component() {
  const say = useWords(words);
  return (
    <EmptyState
      icon={<Compass aria-hidden />}
      title={say("notFoundTitle")}
      actions={
        <Button asChild>
          <Link to="/">{say("home")}</Link>
        </Button>
      }
    >
      {say("notFoundText")}
    </EmptyState>
  );
}
