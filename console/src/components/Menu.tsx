import { DropdownMenu as Radix } from "radix-ui";
import type { ReactNode } from "react";
import { classes } from "./classes";

const ITEM =
  "flex cursor-pointer select-none items-center gap-2 rounded px-2 py-1.5 outline-none data-[disabled]:cursor-not-allowed data-[highlighted]:bg-raised data-[disabled]:opacity-50 [&_svg]:size-4";

interface MenuProps {
  /** The button that opens it. */
  trigger: ReactNode;
  align?: "start" | "center" | "end";
  children: ReactNode;
}

export function Menu({ trigger, align = "end", children }: MenuProps) {
  return (
    <Radix.Root>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          align={align}
          sideOffset={4}
          collisionPadding={8}
          className="z-50 max-h-[70vh] min-w-44 overflow-y-auto rounded-md border border-line bg-surface p-1 shadow-lg"
        >
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

interface MenuItemProps {
  onSelect?: () => void;
  danger?: boolean;
  disabled?: boolean;
  asChild?: boolean;
  children: ReactNode;
}

export function MenuItem({ onSelect, danger, disabled, asChild, children }: MenuItemProps) {
  return (
    <Radix.Item
      className={classes(ITEM, danger && "text-bad")}
      {...(onSelect ? { onSelect } : {})}
      {...(disabled ? { disabled } : {})}
      {...(asChild ? { asChild } : {})}
    >
      {children}
    </Radix.Item>
  );
}

export function MenuChoice({
  value,
  onChange,
  of,
}: {
  value: string;
  onChange: (value: string) => void;
  of: Record<string, string>;
}) {
  return (
    <Radix.RadioGroup value={value} onValueChange={onChange}>
      {Object.entries(of).map(([key, text]) => (
        <Radix.RadioItem key={key} value={key} className={classes(ITEM, "data-[state=checked]:font-semibold")}>
          <span className="w-3" aria-hidden>
            {value === key ? "✓" : ""}
          </span>
          {text}
        </Radix.RadioItem>
      ))}
    </Radix.RadioGroup>
  );
}

export const MenuLabel = ({ children }: { children: ReactNode }) => (
  <Radix.Label className="px-2 pt-1.5 pb-1 font-medium text-quiet text-xs">{children}</Radix.Label>
);

export const MenuLine = () => <Radix.Separator className="my-1 h-px bg-line" />;
