/** Which project is looked at: the one in the address, else the one before. */
import { useParams } from "react-router";
import { usePreferences } from "./preferences";

/** Returns the project that new objects and project-wide pages are for; null: none was chosen, or all. */
export function useProject(): string | null {
  const { project } = useParams();
  const last = usePreferences((state) => state.project);
  return project ?? last;
}
