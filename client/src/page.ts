// What happens to a page and its machine, as far as it concerns a connection.

export interface PageSink {
  /** There is no network any more. */
  offline(): void;
  /** There is a network again. */
  online(): void;
  /** The page or the machine has slept: the connection may be dead. */
  doubt(): void;
  /** The page is put aside, and must not be connected. */
  away(): void;
  /** It is back. */
  back(): void;
}

/** The window; in tests something simpler. */
export interface Page extends EventTarget {
  document?: EventTarget & { visibilityState: string };
}

const DOUBT_AFTER_MSEC = 30_000;

/** Watches the page until the returned function is called. `pauseHidden`: milliseconds, if a hidden page is put aside. */
export function watchPage(page: Page, sink: PageSink, now: () => number, pauseHidden?: number): () => void {
  const undo: (() => void)[] = [];
  const on = (target: EventTarget | undefined, type: string, f: (event: Event) => void) => {
    target?.addEventListener?.(type, f);
    undo.push(() => target?.removeEventListener?.(type, f));
  };
  let hiddenAt = now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const document = page.document;

  on(page, 'offline', () => sink.offline());
  on(page, 'online', () => sink.online());
  // A page in the back/forward cache must not hold a connection, and its return fires nothing but this.
  on(page, 'pagehide', event => (event as PageTransitionEvent).persisted && sink.away());
  on(page, 'pageshow', event => (event as PageTransitionEvent).persisted && sink.back());
  on(document, 'resume', () => sink.doubt());
  on(document, 'visibilitychange', () => {
    clearTimeout(timer);
    if (document!.visibilityState === 'hidden') {
      hiddenAt = now();
      if (pauseHidden !== undefined) timer = setTimeout(() => sink.away(), pauseHidden);
    } else {
      sink.back();
      if (now() - hiddenAt > DOUBT_AFTER_MSEC) sink.doubt();
    }
  });
  undo.push(() => clearTimeout(timer));
  return () => undo.forEach(f => f());
}
