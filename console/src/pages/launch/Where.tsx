import { Folder, Rocket } from "lucide-react";
import { Link, Navigate } from "react-router";
import { launchLink } from "~/api/kinds";
import { useMe } from "~/api/me";
import { useProjects } from "~/api/projects";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { EmptyState } from "~/components/EmptyState";
import { useWords } from "~/i18n/language";
import { words } from "./words";

/** Where to launch, for who looks at all projects. */
export function Component() {
  const say = useWords(words);
  const me = useMe();
  const { projects, loading } = useProjects();
  if (!me || loading) return <Busy />;
  const [only] = projects;
  if (only && projects.length === 1) return <Navigate to={launchLink(only)} replace />;
  return (
    <EmptyState
      icon={<Rocket aria-hidden />}
      title={say(only ? "whereTitle" : "nowhereTitle")}
      actions={
        only ? (
          projects.map((project) => (
            <Button asChild key={project} className="whitespace-normal break-all">
              <Link to={launchLink(project)}>
                <Folder aria-hidden />
                {project}
              </Link>
            </Button>
          ))
        ) : me.allProjects ? (
          <Button asChild>
            <Link to="/projects/_new">{say("newProject")}</Link>
          </Button>
        ) : null
      }
    >
      {say(only ? "whereText" : me.allProjects ? "nowhereText" : "nowhereForYou")}
    </EmptyState>
  );
}
