import type { ReactNode } from "react";

interface EmptyStateProps {
  icon?: ReactNode;
  title: ReactNode;
  /** What to do now. */
  children?: ReactNode;
  actions?: ReactNode;
}

/** Says that there is nothing, and what to do about it. */
export const EmptyState = ({ icon, title, children, actions }: EmptyStateProps) => (
  <div className="flex flex-col items-center gap-3 px-4 py-12 text-center [&>svg]:size-10 [&>svg]:text-quiet">
    {icon}
    <h2 className="font-semibold text-base">{title}</h2>
    {children ? <div className="max-w-prose text-quiet">{children}</div> : null}
    {actions ? <div className="flex flex-wrap justify-center gap-2">{actions}</div> : null}
  </div>
);
