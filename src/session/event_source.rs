//! The body of an event stream: event blocks, each with a comment as padding, and comments as
//! pings.

use crate::model::Message;
use crate::wire::sse::BlankLines;
use crate::wire::template::Template;
use crate::wire::{padding, sse};

/// Appends one event block, and as much padding as `padding_len` gives for the length of its data.
pub(super) fn render(
    template: &Template,
    blank_lines: BlankLines,
    message: &Message<'_>,
    padding_len: impl Fn(usize) -> usize,
    out: &mut Vec<u8>,
) {
    let measured = sse::render(template, blank_lines, message, out);
    padding::push_comment(padding_len(measured), out);
}

#[cfg(test)]
mod tests {
    use crate::model::Message;
    use crate::session::{Form, Framing, Padding};

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
}
