import { Tabs } from "radix-ui";
import { useEffect, useRef } from "react";
import { classes } from "./classes";

interface TabListProps<T extends string> {
  label: string;
  tabs: readonly T[];
  /** The one that is shown: it is in sight, also where there is no room for all. */
  active: T;
  say: (tab: T) => string;
  className?: string;
}

/** The names of tabs, within `Tabs.Root`. */
export function TabList<T extends string>({ label, tabs, active, say, className }: TabListProps<T>) {
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    list.current?.querySelector(`[data-tab="${active}"]`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [active]);
  return (
    <Tabs.List
      ref={list}
      aria-label={label}
      className={classes("flex overflow-x-auto border-line border-b", className)}
    >
      {tabs.map((each) => (
        <Tabs.Trigger
          key={each}
          value={each}
          data-tab={each}
          className="cursor-pointer whitespace-nowrap border-transparent focus-visible:-outline-offset-2 border-b-2 px-3 py-2 font-medium text-quiet hover:text-text data-[state=active]:border-accent data-[state=active]:text-text"
        >
          {say(each)}
        </Tabs.Trigger>
      ))}
    </Tabs.List>
  );
}
