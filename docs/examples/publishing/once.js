// Calls f with each message once, also if it was published twice with the same event id.
export function once(f) {
  const seen = new Set();
  return (message) => {
    if (message.eventId && seen.has(message.eventId)) return;
    if (message.eventId) seen.add(message.eventId);
    if (seen.size > 1000) seen.delete(seen.values().next().value);
    f(message);
  };
}
