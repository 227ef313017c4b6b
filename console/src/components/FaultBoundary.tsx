import { Component, type ReactNode } from "react";
import { say } from "~/i18n/language";
import { words } from "./words";

/** Keeps a page's fault from taking the rest of the console with it. */
export class FaultBoundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null as Error | null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    return (
      <div role="alert" className="m-4 rounded-md bg-bad-ground p-4 text-bad">
        <p className="font-semibold">{say(words, "faultTitle")}</p>
        <p>{say(words, "faultText", { message: error.message })}</p>
      </div>
    );
  }
}
