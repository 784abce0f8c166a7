//! The body of the answer to a poll: header, messages, footer, perhaps in a callback.
//!
//! ```text
//!   <header template> [ <callback>([ ] <message> [,] <message> ... [ ]); ] <footer template>
//! ```
//!
//! The messages are renderings of the location's form. [`Reply`] appends only what comes around
//! them, so the renderings can be shared with other subscribers.

use crate::model::{Cursor, Gap};
use crate::session::Layout;
use crate::session::outbox::Piece;
use crate::wire::jsonp::{self, Callback};

/// An answer that is being written: [`Reply::open`], then [`Reply::before_message`] before each
/// message, then [`Reply::close`].
#[derive(Debug)]
pub struct Reply<'a> {
    layout: &'a Layout,
    callback: Option<&'a Callback>,
    has_messages: bool,
}

impl<'a> Reply<'a> {
    /// Appends what comes before the first message; this may be nothing.
    pub fn open(layout: &'a Layout, callback: Option<&'a Callback>, out: &mut Vec<u8>) -> Self {
        layout.open(None, out);
        if let Some(callback) = callback {
            callback.open(out);
        }
        Self { layout, callback, has_messages: false }
    }

    /// Appends what separates a message from the one before; this may be nothing.
    pub fn before_message(&mut self, out: &mut Vec<u8>) {
        if self.has_messages {
            out.extend_from_slice(separator(self.callback));
        }
        self.has_messages = true;
    }

    /// Appends what [`gaps`] has rendered, ahead of all messages.
    pub fn tell(&mut self, told: &[u8], out: &mut Vec<u8>) {
        if !told.is_empty() {
            self.before_message(out);
            out.extend_from_slice(told);
        }
    }

    /// Appends what comes after the last message; this may be nothing.
    pub fn close(self, out: &mut Vec<u8>) {
        if let Some(callback) = self.callback {
            callback.close(out);
        }
        self.layout.close(out);
    }
}

/// The whole body of an answer.
#[derive(Debug, Default)]
pub struct Body {
    /// Bytes that only this client gets; perhaps all there are.
    own: Vec<u8>,
    /// A message that others get as well, and what comes after it for this client.
    shared: Option<(Piece, Vec<u8>)>,
}

impl Body {
    /// A body of these bytes.
    pub fn of(own: Vec<u8>) -> Self {
        Self { own, shared: None }
    }

    /// Header, callback and footer around what only this client is told, and one message that others are
    /// sent as well. Each may be missing.
    pub fn around(
        layout: &Layout,
        callback: Option<&Callback>,
        told: &[u8],
        message: Option<Piece>,
    ) -> Self {
        let (mut own, mut after) = (Vec::new(), Vec::new());
        let mut reply = Reply::open(layout, callback, &mut own);
        reply.tell(told, &mut own);
        let Some(message) = message else {
            reply.close(&mut own);
            return Self::of(own);
        };
        reply.before_message(&mut own);
        reply.close(&mut after);
        Self { own, shared: Some((message, after)) }
    }

    /// Its bytes, in parts that may be empty.
    pub fn parts(&self) -> [&[u8]; 3] {
        let (message, after) = match &self.shared {
            Some((message, after)) => (message.bytes(), after.as_slice()),
            None => (&[][..], &[][..]),
        };
        [&self.own, message, after]
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Has it no bytes?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, as pieces that need not be copied.
    pub fn into_pieces(self) -> impl Iterator<Item = Piece> {
        let (message, after) = self.shared.unzip();
        let pieces = [Some(Piece::of(self.own)), message, after.map(Piece::of)];
        pieces.into_iter().flatten()
    }
}

/// The messages that tell of gaps, with what separates them: channel, reason and how many messages are missing.
/// `place`: where the client is then, if no message behind them says it. The last one has it: a client that has
/// it has been told of all.
pub fn gaps<'a>(
    layout: &Layout,
    callback: Option<&Callback>,
    missing: impl Iterator<Item = (&'a [u8], Gap, Option<u64>)>,
    place: Option<Cursor>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut missing = missing.peekable();
    while let Some((channel, reason, count)) = missing.next() {
        let place = place.filter(|_| missing.peek().is_none());
        let mut message = Vec::new();
        layout.form().gap(channel, reason, count, place, &mut message);
        if !out.is_empty() {
            out.extend_from_slice(separator(callback));
        }
        out.extend_from_slice(&message);
    }
    out
}

/// What separates a message from the one before; this may be nothing.
pub fn separator(callback: Option<&Callback>) -> &'static [u8] {
    if callback.is_some() { jsonp::SEPARATOR } else { b"" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Message;
    use crate::session::Framing;

    fn answer(layout: &Layout, callback: Option<&Callback>, texts: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut reply = Reply::open(layout, callback, &mut out);
        for text in texts {
            reply.before_message(&mut out);
            layout.form().render(&Message::ping(text), &mut out);
        }
        reply.close(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn batches() {
        let layout = Layout::new(Framing::Plain, b"HEAD", b"<~text~>", b"FOOT");
        assert_eq!(answer(&layout, None, &[b"a", b"b"]), "HEAD<a><b>FOOT");
        assert_eq!(answer(&layout, None, &[]), "HEADFOOT");
    }

    #[test]
    fn gaps_come_before_messages() {
        let callback = Callback::parse(b"cb").expect("a plain name");
        let layout = Layout::new(Framing::Plain, b"H", b"<~id~ ~channel~ ~text~>", b"F");
        let missing = [(&b"a"[..], Gap::Evicted, Some(2)), (b"b", Gap::Expired, None)];
        let texts = [
            r#"<-4 a {"channel":"a","reason":"evicted","missed":2}>"#,
            r#"<-4 b {"channel":"b","reason":"expired","missed":null}>"#,
        ];
        for (callback, begin, separator, end) in
            [(None, "H", "", "F"), (Some(&callback), "Hcb([", ",", "]);F")]
        {
            for count in 0..=missing.len() {
                let told = gaps(&layout, callback, missing.into_iter().take(count), None);
                for message in [None, Some("<7 a text>")] {
                    let piece = message.map(|message| Piece::of(message.into()));
                    let body = Body::around(&layout, callback, &told, piece);
                    let parts: Vec<_> = texts.into_iter().take(count).chain(message).collect();
                    let expected = format!("{begin}{}{end}", parts.join(separator));
                    assert_eq!(String::from_utf8_lossy(&body.parts().concat()), expected);
                }
            }
        }
    }

    #[test]
    fn callbacks_take_an_array() {
        let callback = Callback::parse(b"cb").expect("a plain name");
        let layout = Layout::new(Framing::Plain, b"", b"{\"text\":\"~text~\"}", b"");
        assert_eq!(answer(&layout, Some(&callback), &[b"a"]), "cb([{\"text\":\"a\"}]);");
        assert_eq!(
            answer(&layout, Some(&callback), &[b"a", b"b"]),
            "cb([{\"text\":\"a\"},{\"text\":\"b\"}]);"
        );
        let layout = Layout::new(Framing::Plain, b"H", b"~text~", b"F");
        assert_eq!(answer(&layout, Some(&callback), &[b"a"]), "Hcb([a]);F");
    }
}
