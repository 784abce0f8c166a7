//! The body of a stream: rendered messages, each with line ends as padding.

use crate::model::Message;
use crate::wire::template::Template;
use crate::wire::{chunked, padding};

/// Appends one message, and as much padding as `padding_len` gives for its length.
pub(super) fn render(
    template: &Template,
    message: &Message<'_>,
    padding_len: impl Fn(usize) -> usize,
    out: &mut Vec<u8>,
) {
    let len = template.rendered_len(message);
    let padding = padding_len(len);
    // With room for what makes it a chunk, for the caller.
    out.reserve(len.saturating_add(padding).saturating_add(chunked::OVERHEAD_MAX));
    template.render(message, out);
    padding::push_line_ends(padding, out);
}

#[cfg(test)]
mod tests {
    use crate::model::Message;
    use crate::session::{Form, Framing, Padding};

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
}
