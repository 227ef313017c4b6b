import { Slot } from "radix-ui";
import { type ButtonHTMLAttributes, forwardRef } from "react";
import { classes } from "./classes";

const LOOKS = {
  plain: "border border-line bg-surface hover:bg-raised",
  primary: "bg-accent text-on-accent hover:bg-accent-strong",
  danger: "border border-bad text-bad hover:bg-bad-ground",
  quiet: "hover:bg-raised",
} as const;

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: keyof typeof LOOKS;
  /** Square, for an icon alone: give it an `aria-label`. */
  icon?: boolean;
  /** Lends its looks to its only child, such as a link. */
  asChild?: boolean;
}

export const Button = forwardRef<HTMLButtonElement, ButtonProps>(
  ({ look = "plain", icon = false, asChild = false, className, type, ...rest }, ref) => {
    const Tag = asChild ? Slot.Root : "button";
    return (
      <Tag
        ref={ref}
        {...(asChild ? {} : { type: type ?? "button" })}
        className={classes(
          "inline-flex min-h-8 cursor-pointer items-center justify-center gap-1.5 whitespace-nowrap rounded-md font-medium",
          "disabled:cursor-not-allowed disabled:opacity-50 [&_svg]:size-4 [&_svg]:shrink-0",
          icon ? "size-8 p-0" : "px-3 py-1",
          LOOKS[look],
          className,
        )}
        {...rest}
      />
    );
  },
);
Button.displayName = "Button";
