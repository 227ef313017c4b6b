/** What a shell says beside its bytes: text frames of the websocket (docs/consoles.md). */

export interface Notice {
  recorded?: true;
  /** The exit status. */
  ended?: number;
  /** Why there is no shell, or no more. */
  fault?: string;
  /** Whether the same may succeed in a moment, as when the guest's SSH server does not answer yet. */
  passing?: true;
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
  const { message: fault, code } = (error ?? {}) as { message?: unknown; code?: unknown };
  return {
    ...(typeof fault === "string" ? { fault } : {}),
    ...(code === 503 || code === 409 ? { passing: true as const } : {}),
    ...(isRecorded ? { recorded: true as const } : {}),
    ...(typeof status === "number" ? { ended: status } : {}),
  };
}
