//! What a location sends: which bytes open a response, carry a message, keep it busy and end it.
//!
//! ```text
//!   Layout   header, form, footer; prepared once, at load
//!   Form     how one message looks; equal forms give equal bytes, so a worker renders each
//!            message once per form and shares the bytes among all subscribers of that form
//! ```
//!
//! Only the transfer coding of the response is added by others.

use crate::model::{Cursor, Gap, Message};
use crate::wire::frame::{self, Opcode};
use crate::wire::sse::BlankLines;
use crate::wire::template::Template;
use crate::wire::{chunked, gap, padding, sse};

/// What messages look like on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// The rendered template, nothing else: streaming, polling, long polling.
    Plain,
    /// Server-sent events, in whatever delivery.
    EventSource,
    /// WebSocket frames.
    WebSocket,
}

/// The minimum lengths that one connection's user agent needs; streaming delivery only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Bytes that the header must have at least; 0 for none.
    pub header_min: usize,
    /// Bytes that each message must have at least; 0 for none.
    pub message_min: usize,
    /// The largest minimum of all lists of the configuration.
    pub largest: usize,
}

/// How one message looks on the wire, but for the transfer coding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    framing: Framing,
    template: Template,
    /// Each message is one JSON object, also a ping.
    is_json: bool,
    /// Messages show their cursors. False wherever there is nothing to show, so that forms which look alike are
    /// equal.
    has_cursors: bool,
    /// The default wherever a message has no lines, so that forms which look alike are equal.
    blank_lines: BlankLines,
    /// `None` whenever no message can be padded, so that forms which look alike are equal.
    padding: Option<MessagePadding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MessagePadding {
    min: usize,
    largest: usize,
}

impl Form {
    /// Prepares a location's message template.
    pub fn new(framing: Framing, message_template: &[u8]) -> Self {
        let template = match framing {
            Framing::Plain | Framing::WebSocket => Template::compile(message_template),
            Framing::EventSource => sse::prepare_message(message_template),
        };
        Self {
            framing,
            template,
            is_json: false,
            has_cursors: false,
            blank_lines: BlankLines::default(),
            padding: None,
        }
    }

    /// A form in which each message is one JSON object on a line of its own.
    fn json(framing: Framing) -> Self {
        let template = match framing {
            Framing::Plain => Template::envelope(b"", b"\n"),
            Framing::EventSource => sse::prepare_envelope(),
            // A frame says where it ends.
            Framing::WebSocket => Template::envelope(b"", b""),
        };
        Self {
            framing,
            template,
            is_json: true,
            has_cursors: false,
            blank_lines: BlankLines::default(),
            padding: None,
        }
    }

    /// The same form with another treatment of a message's empty lines; only server-sent events have
    /// lines.
    fn with_blank_lines(self, blank_lines: BlankLines) -> Self {
        match self.framing {
            Framing::EventSource if !self.template.has_json_text() => Self { blank_lines, ..self },
            Framing::EventSource | Framing::Plain | Framing::WebSocket => self,
        }
    }

    /// The same form with cursors: `~cursor~`, and the ids of server-sent events.
    fn with_cursors(self) -> Self {
        let has_cursors = self.framing == Framing::EventSource || self.template.has_cursor();
        Self { has_cursors, ..self }
    }

    /// The same form for a connection with padding. WebSocket frames are never padded.
    pub fn padded(&self, padding: &Padding) -> Self {
        let wanted = padding.message_min > 0 && self.framing != Framing::WebSocket;
        let padding = MessagePadding { min: padding.message_min, largest: padding.largest };
        Self { padding: wanted.then_some(padding), ..self.clone() }
    }

    /// Its framing.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Appends one message, framed and padded: one chunk, one write. It may be no bytes at all, and
    /// then nothing is to be sent.
    pub fn render(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        #[cfg(test)]
        crate::session::sim::link::rendering();
        let without;
        let message = if self.has_cursors || !self.template.has_cursor() {
            message
        } else {
            without = Message { life: 0, ..*message };
            &without
        };
        match self.framing {
            Framing::Plain => {
                let len = self.template.rendered_len(message);
                let padding = self.padding_len(len);
                // With room for what makes it a chunk, for the caller.
                out.reserve(len.saturating_add(padding).saturating_add(chunked::OVERHEAD_MAX));
                self.template.render(message, out);
                padding::push_line_ends(padding, out);
            }
            Framing::EventSource => {
                let render = if self.has_cursors { sse::render_placed } else { sse::render };
                let len = render(&self.template, self.blank_lines, message, out);
                padding::push_comment(self.padding_len(len), out);
            }
            Framing::WebSocket => {
                let opcode =
                    if message.binary && !self.is_json { Opcode::Binary } else { Opcode::Text };
                let len = self.template.rendered_len(message);
                out.reserve(frame::HEAD_MAX + len);
                frame::encode_head(opcode, len, out);
                self.template.render(message, out);
            }
        }
    }

    /// Appends a ping; `text` is the configured text of the id -1 message. It may be no bytes at
    /// all, and then nothing is to be sent.
    pub fn ping(&self, text: &[u8], out: &mut Vec<u8>) {
        match self.framing {
            _ if self.is_json => self.render(&Message::ping(text), out),
            Framing::Plain => self.render(&Message::ping(text), out),
            Framing::EventSource => out.extend_from_slice(sse::PING),
            Framing::WebSocket => out.extend_from_slice(frame::PING),
        }
    }

    /// Appends the message that tells of a gap in a channel: why, and how many messages are missing, if that
    /// is known. `place`: where a client is that has been told. In an event stream it is an event of the type
    /// `gap` and has no id, so the place that the client comes back with stays as it is. It may be no bytes at
    /// all, and then nothing is to be sent.
    pub fn gap(
        &self,
        channel: &[u8],
        reason: Gap,
        missed: Option<u64>,
        place: Option<Cursor>,
        out: &mut Vec<u8>,
    ) {
        let text = gap::text(channel, reason, missed);
        let place = place.filter(|_| self.framing != Framing::EventSource);
        let message = Message::gap(channel, &text, place);
        if self.framing == Framing::EventSource && !self.is_json {
            Self { template: sse::prepare_gap(), ..self.clone() }.render(&message, out);
        } else {
            self.render(&message, out);
        }
    }

    /// How much padding goes with so many bytes.
    fn padding_len(&self, len: usize) -> usize {
        self.padding.map_or(0, |p| padding::padding_len(len, p.min, p.largest))
    }
}

/// All that a location sends besides response headers, prepared once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    header: Box<[u8]>,
    form: Form,
    footer: Box<[u8]>,
}

impl Layout {
    /// Prepares the three templates as they stand in the configuration; empty for unset.
    pub fn new(framing: Framing, header: &[u8], message: &[u8], footer: &[u8]) -> Self {
        let (header, footer) = match framing {
            Framing::Plain => (header.to_vec(), footer.to_vec()),
            Framing::EventSource => (sse::prepare_header(header), sse::prepare_footer(footer)),
            Framing::WebSocket => (text_frame(header), text_frame(footer)),
        };
        let form = Form::new(framing, message);
        Self { header: header.into(), form, footer: footer.into() }
    }

    /// The same layout, with this done to a message's empty lines in server-sent events.
    pub fn with_blank_lines(self, blank_lines: BlankLines) -> Self {
        Self { form: self.form.with_blank_lines(blank_lines), ..self }
    }

    /// The same layout, with the cursors of messages. To be called last.
    pub fn with_cursors(self) -> Self {
        Self { form: self.form.with_cursors(), ..self }
    }

    /// The same layout, with each message as one JSON object instead of the message template.
    pub fn with_json_messages(self) -> Self {
        Self { form: Form::json(self.form.framing), ..self }
    }

    /// How messages look.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Appends what goes before the first message. `padding` only where delivery is streaming and
    /// the user agent has one. Nothing may be appended.
    pub fn open(&self, padding: Option<&Padding>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        let Some(wanted) = padding.filter(|_| !self.header.is_empty()) else { return };
        let len = padding::padding_len(self.header.len(), wanted.header_min, wanted.largest);
        match self.form.framing {
            Framing::Plain => padding::push_line_ends(len, out),
            Framing::EventSource => padding::push_comment(len, out),
            Framing::WebSocket => {}
        }
    }

    /// Appends what goes after the last message at an orderly end: the footer, and WebSocket's
    /// close frame. Nothing may be appended.
    pub fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.footer);
        if self.form.framing == Framing::WebSocket {
            out.extend_from_slice(frame::CLOSE);
        }
    }
}

fn text_frame(template: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !template.is_empty() {
        frame::encode(Opcode::Text, template, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Latest, Stamp};
    use crate::wire::cursor;

    const NEWS: Message<'_> = Message {
        id: 7,
        channel: b"news",
        time: 0,
        tag: 1,
        life: 0x11fe,
        latest: Some(Latest { channel: 5, id: 7 }),
        event_id: None,
        event_type: None,
        text: b"Ola",
        stamp: Stamp(0),
        binary: false,
    };

    fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn plain_layouts_send_templates_as_they_are() {
        let layout = Layout::new(Framing::Plain, b"HEAD", b"[~id~|~text~]", b"FOOT");
        assert_eq!(bytes(|out| layout.open(None, out)), b"HEAD");
        assert_eq!(bytes(|out| layout.form().render(&NEWS, out)), b"[7|Ola]");
        assert_eq!(bytes(|out| layout.form().ping(b" ", out)), b"[-1| ]");
        assert_eq!(bytes(|out| layout.close(out)), b"FOOT");
    }

    #[test]
    fn event_source_layouts_send_comments_and_events() {
        let layout = Layout::new(Framing::EventSource, b"", b"~text~", b"bye");
        assert_eq!(bytes(|out| layout.open(None, out)), b": \n");
        assert_eq!(bytes(|out| layout.form().render(&NEWS, out)), b"data: Ola\n\n");
        assert_eq!(bytes(|out| layout.form().ping(b"x", out)), b": -1\n");
        assert_eq!(bytes(|out| layout.close(out)), b": bye\n");
    }

    #[test]
    fn event_source_layouts_keep_blank_lines_if_told() {
        let layout = Layout::new(Framing::EventSource, b"a\n\nb", b"~text~", b"c\n\nd\n");
        let keeping = layout.clone().with_blank_lines(BlankLines::Keep);
        let text = Message { text: b"a\n\nb", ..NEWS };
        assert_eq!(bytes(|out| layout.form().render(&text, out)), b"data: a\ndata: b\n\n");
        assert_eq!(bytes(|out| keeping.form().render(&text, out)), b"data: a\ndata: \ndata: b\n\n");
        // Padding is a comment behind the event, as before; comments have no empty lines.
        let padding = Padding { header_min: 0, message_min: 30, largest: 545 };
        let padded = keeping.form().padded(&padding);
        assert_eq!(
            bytes(|out| padded.render(&text, out)),
            [b"data: a\ndata: \ndata: b\n\n".as_slice(), &[b':'; 99], b"\n"].concat()
        );
        assert_eq!(bytes(|out| keeping.open(None, out)), b": a\n: b\n");
        assert_eq!(bytes(|out| keeping.close(out)), b": c\n: d\n");
        assert_eq!(bytes(|out| keeping.form().ping(b" ", out)), b": -1\n");
    }

    #[test]
    fn websocket_layouts_send_frames() {
        let layout = Layout::new(Framing::WebSocket, b"HEAD", b"~id~:~channel~:~text~", b"");
        assert_eq!(bytes(|out| layout.open(None, out)), b"\x81\x04HEAD");
        assert_eq!(bytes(|out| layout.form().render(&NEWS, out)), b"\x81\x0a7:news:Ola");
        assert_eq!(bytes(|out| layout.form().ping(b"x", out)), b"\x89\x00");
        assert_eq!(bytes(|out| layout.close(out)), b"\x88\x00");
        let binary = Message { binary: true, ..NEWS };
        assert_eq!(bytes(|out| layout.form().render(&binary, out))[0], 0x82);

        let layout = Layout::new(Framing::WebSocket, b"", b"~text~", b"bye");
        assert_eq!(bytes(|out| layout.open(None, out)), b"");
        assert_eq!(bytes(|out| layout.close(out)), b"\x81\x03bye\x88\x00");
    }

    #[test]
    fn nothing_to_say_is_no_bytes() {
        let form = Form::new(Framing::Plain, b"~text~");
        assert_eq!(bytes(|out| form.ping(b"", out)), b"");
        let layout = Layout::new(Framing::Plain, b"", b"~text~", b"");
        assert_eq!(bytes(|out| layout.open(None, out)), b"");
        assert_eq!(bytes(|out| layout.close(out)), b"");
    }

    #[test]
    fn pads_headers_that_exist() {
        let padding = Padding { header_min: 545, message_min: 0, largest: 545 };
        let open = |framing, header| {
            bytes(|out| Layout::new(framing, header, b"~text~", b"").open(Some(&padding), out))
        };
        assert_eq!(open(Framing::Plain, b"0").len(), 1 + 545);
        assert_eq!(open(Framing::Plain, b"").len(), 0);
        assert_eq!(open(Framing::EventSource, b"").len(), 3 + 545);
        assert_eq!(open(Framing::WebSocket, b"0"), b"\x81\x010");
    }

    #[test]
    fn forms_that_look_alike_are_equal() {
        let form = |framing, text| Form::new(framing, text);
        assert_eq!(form(Framing::Plain, b"~TEXT~"), form(Framing::Plain, b"~text~"));
        assert_eq!(form(Framing::EventSource, b""), form(Framing::EventSource, b"~text~"));
        assert_ne!(form(Framing::Plain, b"~text~"), form(Framing::WebSocket, b"~text~"));

        let events = form(Framing::EventSource, b"~text~");
        let keeping = events.clone().with_blank_lines(BlankLines::Keep);
        assert_ne!(keeping, events);
        assert_eq!(events.clone().with_blank_lines(BlankLines::Drop), events);
        let plain = form(Framing::Plain, b"~text~");
        assert_eq!(plain.clone().with_blank_lines(BlankLines::Keep), plain);

        let none = Padding { header_min: 545, message_min: 0, largest: 545 };
        let some = Padding { header_min: 0, message_min: 10, largest: 545 };
        let plain = form(Framing::Plain, b"~text~");
        assert_eq!(plain.padded(&none), plain);
        assert_ne!(plain.padded(&some), plain);
        let websocket = form(Framing::WebSocket, b"~text~");
        assert_eq!(websocket.padded(&some), websocket);
    }

    #[test]
    fn pads_messages_pings_and_the_deletion_notice() {
        let padding = Padding { header_min: 0, message_min: 508, largest: 508 };
        let form = Form::new(Framing::Plain, b"~text~").padded(&padding);
        let mut out = Vec::new();
        form.render(&Message::deleted(b"news", b"0123456789"), &mut out);
        assert_eq!(out.len(), 510);
        assert_eq!(&out[..12], b"0123456789\r\n");

        out.clear();
        form.ping(b" ", &mut out);
        assert_eq!(out.len(), 1 + 508);

        out.clear();
        form.render(&Message::deleted(b"news", &[b'x'; 508]), &mut out);
        assert_eq!(out.len(), 508);
    }

    #[test]
    fn pads_by_data_alone_and_never_a_ping() {
        let padding = Padding { header_min: 0, message_min: 100, largest: 4097 };
        let form = Form::new(Framing::EventSource, b"~text~").padded(&padding);
        let with_id = Message { event_id: Some(&[b'i'; 200]), ..Message::deleted(b"", b"bye") };
        let mut out = Vec::new();
        form.render(&with_id, &mut out);
        let block = "id: \ndata: bye\n\n".len() + 200;
        assert_eq!(out.len(), block + 100);
        assert_eq!(&out[block..block + 2], b"::");
        assert_eq!(&out[out.len() - 2..], b":\n");

        out.clear();
        form.ping(b" ", &mut out);
        assert_eq!(out, b": -1\n");
    }

    #[test]
    fn cursors_show_where_they_are_on() {
        let place =
            Cursor { life: 0x11fe, time: 0, tag: 1, latest: Some(Latest { channel: 5, id: 7 }) };
        let word = String::from_utf8_lossy(&cursor::word(&place)).into_owned();
        for framing in [Framing::Plain, Framing::EventSource, Framing::WebSocket] {
            let off = Layout::new(framing, b"", b"<~cursor~>", b"");
            let shown = |layout: &Layout| {
                let text = bytes(|out| layout.form().render(&NEWS, out));
                String::from_utf8_lossy(&text).into_owned()
            };
            assert!(shown(&off).contains("<>"), "{framing:?}");
            let on = off.clone().with_cursors();
            assert!(shown(&on).contains(&format!("<{word}>")), "{framing:?}");
            let id = framing == Framing::EventSource;
            assert_eq!(shown(&on).starts_with(&format!("id: {word}\n")), id, "{framing:?}");
            let json = off.with_json_messages();
            assert!(shown(&json).contains("\"cursor\":null"), "{framing:?}");
            assert!(
                shown(&json.with_cursors()).contains(&format!("\"cursor\":\"{word}\"")),
                "{framing:?}"
            );
            // Forms that look alike are equal.
            let plain = Layout::new(framing, b"", b"~text~", b"");
            assert_eq!(plain.clone().with_cursors() == plain, !id, "{framing:?}");
        }
    }

    #[test]
    fn a_gap_is_a_message_or_an_event_of_its_own_type() {
        const TEXT: &str = r#"{"channel":"news","reason":"evicted","missed":12}"#;
        let told = |layout: &Layout| {
            let text = bytes(|out| layout.form().gap(b"news", Gap::Evicted, Some(12), None, out));
            String::from_utf8_lossy(&text).into_owned()
        };
        let layout = |framing| {
            Layout::new(
                framing,
                b"",
                b"<~id~ ~channel~ ~event-type~ ~event-id~ ~text~ ~cursor~>",
                b"",
            )
        };
        let rendered = format!("<-4 news gap  {TEXT} >");
        let event = format!("event: gap\ndata: {TEXT}\n\n");
        let object = format!(
            "{{\"id\":-4,\"channel\":\"news\",\"cursor\":null,\"time\":0,\"tag\":0,\
             \"event_id\":null,\"event_type\":\"gap\",\"text\":\"{}\"}}",
            TEXT.replace('"', "\\\"")
        );
        for has_cursors in [false, true] {
            let with = |layout: Layout| if has_cursors { layout.with_cursors() } else { layout };
            assert_eq!(told(&with(layout(Framing::Plain))), rendered);
            assert_eq!(told(&with(layout(Framing::EventSource))), event);
            assert!(told(&with(layout(Framing::WebSocket))).ends_with(&rendered));

            let json = |framing| told(&with(layout(framing).with_json_messages()));
            assert_eq!(json(Framing::Plain), format!("{object}\n"));
            assert_eq!(json(Framing::EventSource), format!("event: gap\ndata: {object}\n\n"));
            assert!(json(Framing::WebSocket).ends_with(&object));
        }
        let padding = Padding { header_min: 0, message_min: 100, largest: 545 };
        let padded = layout(Framing::EventSource).form().padded(&padding);
        let text = bytes(|out| padded.gap(b"news", Gap::Evicted, Some(12), None, out));
        assert!(text.starts_with(event.as_bytes()) && text.len() > event.len());
    }

    #[test]
    fn json_messages_are_a_line_an_event_or_a_text_frame() {
        let layout = |framing| Layout::new(framing, b"H", b"~text~", b"F").with_json_messages();
        let object = |id: &str, channel: &str, tag: &str, content: &str| {
            format!(
                "{{\"id\":{id},\"channel\":\"{channel}\",\"cursor\":null,\"time\":0,\"tag\":{tag},\
                 \"event_id\":null,\"event_type\":null,{content}}}"
            )
        };
        let ola = object("7", "news", "1", "\"text\":\"Ola\"");
        let ping = object("-1", "", "0", "\"text\":\" \"");

        let plain = layout(Framing::Plain);
        assert_eq!(bytes(|out| plain.open(None, out)), b"H");
        assert_eq!(bytes(|out| plain.form().render(&NEWS, out)), format!("{ola}\n").as_bytes());
        assert_eq!(bytes(|out| plain.form().ping(b" ", out)), format!("{ping}\n").as_bytes());
        assert_eq!(bytes(|out| plain.close(out)), b"F");

        let events = layout(Framing::EventSource);
        let event = |object: &str| format!("data: {object}\n\n").into_bytes();
        assert_eq!(bytes(|out| events.form().render(&NEWS, out)), event(&ola));
        assert_eq!(bytes(|out| events.form().ping(b" ", out)), event(&ping));
        assert_eq!(events.clone().with_blank_lines(BlankLines::Keep), events);

        let socket = layout(Framing::WebSocket);
        let binary = Message { binary: true, text: b"\xff", ..NEWS };
        let in_base64 = object("7", "news", "1", "\"base64\":\"/w==\"");
        for (message, object) in [(NEWS, &ola), (binary, &in_base64)] {
            let frame = bytes(|out| socket.form().render(&message, out));
            assert_eq!(frame.split_at(2), (&[0x81, object.len() as u8][..], object.as_bytes()));
        }
        let frame = bytes(|out| socket.form().ping(b" ", out));
        assert_eq!(frame.split_at(2), (&[0x81, ping.len() as u8][..], ping.as_bytes()));
        assert_eq!(bytes(|out| socket.close(out)), b"\x81\x01F\x88\x00");
    }
}
