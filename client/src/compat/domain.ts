// The domain that a page and the document streamed into its hidden frame share.

/** The part of a host name that two hosts of one site have in common. */
export function commonDomain(host: string): string {
  if (/^(\d{1,3}\.){3}\d{1,3}$/.test(host)) return host;
  const labels = host.split('.');
  const short = /[^.]{3,}$/.test(host) || /[^.]{4,}\.[^.]{2}$/.test(host);
  return labels.slice(-Math.max(labels.length - 1, short ? 2 : 3)).join('.');
}

/** Browsers do not allow it any more by default. A frame of the same origin works without it. */
export function shareDomain(): void {
  try {
    document.domain = commonDomain(document.domain);
  } catch {}
}
