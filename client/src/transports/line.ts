// What a transport and the face above it know of each other.

/** One attempt to connect, as the transport sees it. After `signal` is aborted nothing that is told here counts. */
export interface Line {
  signal: AbortSignal;
  /** What to ask, with the place that is right at this moment. */
  request(): Promise<Request> | Request;
  /** Connected. With the answer, if the transport can see one. */
  open(response?: Response): void;
  /** The text of a frame, an event, a line or an answer: JSON objects. Returns whether there was anything new in it. */
  take(text: string): boolean;
  /** Something came; as a ping, or after as long a wait as between pings. */
  heard(isPing: boolean): void;
  /** The server's cursor, apart from a message. */
  place(cursor: string): void;
  /** The answer to a poll is read. */
  polled(response: Response): void;
  /** Until there is room for more. */
  room(): Promise<void> | void;
  /** The transport sets it if it can send. */
  send?: (text: string) => void;
}

export interface Request {
  url: string;
  headers?: HeadersInit;
  credentials?: RequestCredentials;
  /** Ends this request, but not the line. */
  signal?: AbortSignal;
}

/**
 * Resolves when the server ends the connection in order, and rejects when it breaks. An error that is no PushError means
 * `network`.
 */
export type Connect = (line: Line) => Promise<void>;
