import { forwardRef } from "react";

/** Where a terminal is drawn. */
export const TerminalFrame = forwardRef<HTMLDivElement, { testId: string }>(({ testId }, ref) => (
  <div className="min-h-0 flex-1 overflow-hidden rounded-md border border-line bg-[#0e1419] p-2">
    <div ref={ref} className="h-full" data-testid={testId} />
  </div>
));
TerminalFrame.displayName = "TerminalFrame";
