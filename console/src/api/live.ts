/**
 * One websocket for all that the page follows (a browser has six connections to a server, so watches share one). It
 * connects again by itself, goes on from the last version that it saw, and says when what is shown may be old.
 */
import { authorizedFetch } from "./client";
import { collect, type LiveEvent } from "./events";
import { useReach } from "./reach";
import { freshToken, renew, useSession } from "./session";
import type { ErrorStatus } from "./types";

export interface Wanted {
  /** A collection of the REST API. */
  path: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** From where on; kept up to date here. */
  resourceVersion: string;
  /** What changed, in order, at most ten times a second. */
  onEvents: (events: LiveEvent[], resourceVersion: string) => void;
  /** The watch is over: its version is too old (410), or a right was lost. */
  onEnd: (status: ErrorStatus) => void;
}

type Frame =
  | { id?: never; type: "ALIVE" }
  | { id: number; type: LiveEvent["type"] | "BOOKMARK"; object: LiveEvent["object"] }
  | { id: number; type: "ERROR"; status: ErrorStatus };

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 5_000;
/** The server says something at least every 10 s; without a word for that long the connection is dead. */
const SILENCE_MS = 30_000;
const TOKEN_ENDED = 4401;
/** After a connection was made anew the server first says what was missed. */
const CATCH_UP_MS = 1_500;
/** Refusals that pass: too many requests, or too slow a reader. */
const PASSING = [429, 503];
const AGAIN_MS = 1_000;

class Watch {
  readonly pending = collect((events) => this.wanted.onEvents(events, this.wanted.resourceVersion));

  constructor(readonly wanted: Wanted) {}

  describe(id: number): string {
    const { path, labelSelector, fieldSelector, resourceVersion } = this.wanted;
    return JSON.stringify({
      op: "watch",
      id,
      path,
      resourceVersion,
      ...(labelSelector ? { labelSelector } : {}),
      ...(fieldSelector ? { fieldSelector } : {}),
    });
  }
}

export class LiveStream {
  private socket: WebSocket | null = null;
  private opening = false;
  private readonly watches = new Map<number, Watch>();
  private last = 0;
  private wait = FIRST_WAIT_MS;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private catchUp: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    useSession.subscribe((now, before) => {
      if (now.state === "Out") this.close();
      else if (now.token !== null && now.token !== before.token) this.send({ op: "token", token: now.token });
    });
    globalThis.addEventListener?.("online", () => this.reconnectNow());
    globalThis.addEventListener?.("offline", () => this.socket?.close());
  }

  /** Follow a collection; call what is returned to stop. */
  watch(wanted: Wanted): () => void {
    const id = ++this.last;
    const watch = new Watch(wanted);
    this.watches.set(id, watch);
    if (this.isOpen()) this.socket?.send(watch.describe(id));
    else void this.open();
    return () => {
      watch.pending.stop();
      if (this.watches.delete(id)) this.send({ op: "unwatch", id });
      if (this.watches.size === 0) useReach.setState({ behind: false });
    };
  }

  private isOpen(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  private send(message: unknown): void {
    if (this.isOpen()) this.socket?.send(JSON.stringify(message));
  }

  private async open(): Promise<void> {
    if (this.opening || this.socket || this.watches.size === 0) return;
    this.opening = true;
    clearTimeout(this.retry);
    try {
      const token = await freshToken();
      if (token !== null) this.connect(token);
    } catch {
      this.later();
    } finally {
      this.opening = false;
    }
  }

  private connect(token: string): void {
    const address = new URL("/api/v1/stream", globalThis.location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, ["vcstack.v1", `vcstack.bearer.${token}`]);
    this.socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.wait = FIRST_WAIT_MS;
      useReach.setState({ answers: true, since: null });
      this.listen();
      for (const [id, watch] of this.watches) socket.send(watch.describe(id));
      clearTimeout(this.catchUp);
      this.catchUp = setTimeout(() => useReach.setState({ behind: false }), CATCH_UP_MS);
    };
    socket.onmessage = ({ data }) => {
      this.listen();
      this.take(JSON.parse(data as string) as Frame);
    };
    socket.onclose = ({ code }) => {
      if (this.socket !== socket) return;
      this.socket = null;
      clearTimeout(this.silence);
      clearTimeout(this.catchUp);
      if (this.watches.size === 0 || useSession.getState().state !== "In") return;
      useReach.setState({ behind: true });
      if (code === TOKEN_ENDED)
        void renew().then(
          () => this.open(),
          () => this.later(),
        );
      else void this.findOut(opened);
    };
  }

  /** Tell a server that is gone from one that only ended the stream or refuses it, then try again. */
  private async findOut(opened: boolean): Promise<void> {
    try {
      // Why a handshake was refused no page is told: asked in the plain way, a session that is over is found out.
      if (opened) await fetch("/healthz", { cache: "no-store" });
      else await authorizedFetch(new Request(new URL("/api/v1/me", globalThis.location.href)));
      useReach.setState({ answers: true, since: null });
    } catch {
      if (useReach.getState().answers) useReach.setState({ answers: false, since: Date.now() });
    }
    this.later();
  }

  private later(): void {
    clearTimeout(this.retry);
    // Spread, so that all the pages of a cloud do not come back at once.
    this.retry = setTimeout(() => void this.open(), this.wait * (0.5 + Math.random()));
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
  }

  private reconnectNow(): void {
    this.wait = FIRST_WAIT_MS;
    void this.open();
  }

  private listen(): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      // close() would wait for an answer of a server that is silent.
      const dead = this.socket;
      dead?.close();
      dead?.onclose?.(new CloseEvent("close", { code: 1006 }));
    }, SILENCE_MS);
  }

  private take(frame: Frame): void {
    if (frame.type === "ALIVE") return;
    const watch = this.watches.get(frame.id);
    if (!watch) return;
    if (frame.type === "ERROR") this.end(frame.id, watch, frame.status);
    else {
      watch.wanted.resourceVersion = frame.object.metadata.resourceVersion;
      if (frame.type !== "BOOKMARK") watch.pending.add({ type: frame.type, object: frame.object });
    }
  }

  private end(id: number, watch: Watch, status: ErrorStatus): void {
    if (PASSING.includes(status.code)) {
      setTimeout(() => {
        if (this.watches.get(id) === watch && this.isOpen()) this.socket?.send(watch.describe(id));
      }, AGAIN_MS);
      return;
    }
    this.watches.delete(id);
    watch.pending.flush();
    watch.wanted.onEnd(status);
  }

  private close(): void {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.retry);
    clearTimeout(this.silence);
    for (const watch of this.watches.values()) watch.pending.stop();
    this.watches.clear();
    useReach.setState({ behind: false });
    socket?.close();
  }
}

export const live = new LiveStream();
