/** From the page to the machine: each connection by a ticket of its own, good once and for a minute. */
import { request } from "~/api/client";
import type { Schemas } from "~/api/types";

export type Stream = Schemas["InstanceStream"];

/** Returns the address of a websocket that may be opened now, once. */
export async function streamAddress(
  path: string,
  stream: Stream,
  more: Record<string, string | number | undefined> = {},
): Promise<string> {
  const { ticket } = await request<Schemas["Ticket"]>("POST", `${path}/tickets`, { body: { stream } });
  const address = new URL(`${path}/${stream.toLowerCase()}`, globalThis.location.origin);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("ticket", ticket);
  for (const [name, value] of Object.entries(more)) {
    if (value !== undefined) address.searchParams.set(name, String(value));
  }
  return address.href;
}

/** How a connection is. `Closed` and `Waiting`, to be tried again soon, have why, in the server's words if it said any. */
export type Link =
  | { state: "Connecting" }
  | { state: "Waiting"; why: string }
  | { state: "Open" }
  | { state: "Closed"; why: string };
