// What happens to a page and its machine, as far as it concerns a connection.

export interface PageSink {
  /** There is no network any more. */
  offline(): void;
  /** There is a network again, or the page was frozen: connect anew. */
  anew(): void;
  /** Nobody has looked for a while: the connection may be dead. */
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
  const { document } = page;
  let hiddenAt = now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const on: Record<string, (isPersisted: boolean) => void> = {
    offline: () => sink.offline(),
    online: () => sink.anew(),
    // A page in the back/forward cache must not hold a connection, and its return fires nothing but this.
    pagehide: isPersisted => isPersisted && sink.away(),
    pageshow: isPersisted => isPersisted && sink.back(),
    resume: () => sink.anew(),
    visibilitychange() {
      clearTimeout(timer);
      if (document!.visibilityState === 'hidden') {
        hiddenAt = now();
        if (pauseHidden !== undefined) timer = setTimeout(() => sink.away(), pauseHidden);
      } else {
        sink.back();
        if (now() - hiddenAt > DOUBT_AFTER_MSEC) sink.doubt();
      }
    },
  };
  const handle = (event: Event) => on[event.type]!((event as PageTransitionEvent).persisted);
  const forAll = (how: 'addEventListener' | 'removeEventListener') => {
    for (const type in on) (/^(resume|vis)/.test(type) ? document : page)?.[how]?.(type, handle);
  };
  forAll('addEventListener');
  return () => {
    clearTimeout(timer);
    forAll('removeEventListener');
  };
}
