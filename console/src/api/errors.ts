/** The ways in which a request fails. */
import type { ErrorStatus } from "./types";

/** The API refused: what it says is for people and may be shown as it is. */
export class Refused extends Error {
  constructor(readonly status: ErrorStatus) {
    super(status.message);
    this.name = "Refused";
  }

  get code(): number {
    return this.status.code;
  }

  get reason(): string {
    return this.status.reason;
  }
}

/** No answer: the server or the way to it is gone. */
export class Unreachable extends Error {
  constructor(cause: unknown) {
    super("the API does not answer", { cause });
    this.name = "Unreachable";
  }
}

/** Returns the refusal that an answer holds, whatever stands before the API answered. */
export async function refusalOf(response: Response): Promise<Refused> {
  const text = await response.text();
  try {
    const status = JSON.parse(text) as ErrorStatus;
    if (typeof status.message === "string" && typeof status.code === "number") return new Refused(status);
  } catch {
    // A proxy's page, perhaps.
  }
  const message = `${response.status} ${response.statusText}`.trim();
  return new Refused({ kind: "Error", code: response.status, reason: "Unknown", message });
}
