import { BookOpen, CircleUser, KeyRound, LogOut } from "lucide-react";
import { Link } from "react-router";
import { messageOf } from "~/api/client";
import { useMe } from "~/api/me";
import { logOut } from "~/api/session";
import { Button } from "~/components/Button";
import { Menu, MenuChoice, MenuItem, MenuLabel, MenuLine } from "~/components/Menu";
import { useWords } from "~/i18n/language";
import { LANGUAGES, type Language } from "~/i18n/languages";
import { type Theme, usePreferences } from "./preferences";
import { toast } from "./toasts";
import { words } from "./words";

export function AccountMenu() {
  const say = useWords(words);
  const me = useMe();
  const { theme, language, set } = usePreferences();
  return (
    <Menu
      trigger={
        <Button look="quiet" aria-label={me ? `${say("account")}: ${me.name}` : say("account")}>
          <CircleUser aria-hidden />
          <span className="hidden max-w-40 truncate sm:inline">{me?.name}</span>
        </Button>
      }
    >
      <MenuLabel>{me?.subject}</MenuLabel>
      <MenuItem asChild>
        <Link to="/account">
          <KeyRound aria-hidden />
          {say("mySessions")}
        </Link>
      </MenuItem>
      <MenuItem asChild>
        <a href="/api/docs" target="_blank" rel="noreferrer">
          <BookOpen aria-hidden />
          {say("apiDocs")}
        </a>
      </MenuItem>
      <MenuLine />
      <MenuLabel>{say("theme")}</MenuLabel>
      <MenuChoice
        value={theme}
        onChange={(value) => set({ theme: value as Theme })}
        of={{ system: say("theme.system"), light: say("theme.light"), dark: say("theme.dark") }}
      />
      <MenuLine />
      <MenuLabel>{say("language")}</MenuLabel>
      <MenuChoice value={language} onChange={(value) => set({ language: value as Language })} of={LANGUAGES} />
      <MenuLine />
      <MenuItem onSelect={() => void logOut().catch((error) => toast("bad", messageOf(error)))}>
        <LogOut aria-hidden />
        {say("logOut")}
      </MenuItem>
    </Menu>
  );
}
