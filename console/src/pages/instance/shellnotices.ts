/** What a shell says beside its bytes: text frames of the websocket (docs/consoles.md). */

export interface Notice {
  recorded?: true;
  /** The exit status. */
  ended?: number;
  /** Why there is no shell, or no more. */
  fault?: string;
}

/** Returns what the text frame says; of what is not known, nothing. */
export function readNotice(text: string): Notice {
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof said !== "object" || said === null) return {};
  const { exit, recording, open, error } = said as Record<string, unknown>;
  const isRecorded = Boolean(recording) || Boolean((open as { recording?: unknown } | undefined)?.recording);
  const status = (exit as { status?: unknown } | undefined)?.status;
  const fault = (error as { message?: unknown } | undefined)?.message;
  return {
    ...(typeof fault === "string" ? { fault } : {}),
    ...(isRecorded ? { recorded: true as const } : {}),
    ...(typeof status === "number" ? { ended: status } : {}),
  };
}
