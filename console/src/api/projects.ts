import { useMemo } from "react";
import { useLiveList } from "./lists";
import { useMe } from "./me";

/** Returns the names of the projects that the user may see, in order; new ones appear by themselves. */
export function useProjects(): { projects: string[]; loading: boolean } {
  const me = useMe();
  const { items, loading } = useLiveList(me?.allProjects ? "/api/v1/projects" : null);
  const projects = useMemo(() => {
    const names = me?.allProjects ? items.map(({ metadata }) => metadata.name) : (me?.projects ?? []);
    return [...names].sort();
  }, [me, items]);
  return { projects, loading };
}
