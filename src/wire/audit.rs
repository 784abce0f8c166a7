//! The report of an audit, as JSON.

use std::io::Write;

use crate::model::Audit;

/// Appends the report to `out`. The module chooses all names in it, so nothing needs escaping.
pub fn render(audit: &Audit, out: &mut Vec<u8>) {
    let page = audit.page_bytes;
    let text = format_args!(
        "{{\"compared\": {}, \"bytes\": {}, \"page_bytes\": {page}, \"pages\": {{\"total\": {}, \
         \"free\": {}, \"reserve\": {}, \"seats\": {}}},\r\n",
        audit.compared,
        audit.bytes,
        audit.pages,
        audit.free_pages,
        audit.reserve_pages,
        audit.seat_pages,
    );
    put(out, text);
    put(out, format_args!("\"kinds\": {{\r\n"));
    for (name, amount) in &audit.kinds {
        let (count, bytes) = (amount.count, amount.bytes);
        put(out, format_args!("  \"{name}\": {{\"count\": {count}, \"bytes\": {bytes}}},\r\n"));
    }
    for (name, count, bytes) in [
        ("free_pages", audit.free_pages, u64::from(audit.free_pages) * page),
        ("seat_pages", audit.seat_pages, u64::from(audit.seat_pages) * page),
    ] {
        put(out, format_args!("  \"{name}\": {{\"count\": {count}, \"bytes\": {bytes}}},\r\n"));
    }
    let (overhead, tables) = (audit.page_overhead_bytes, audit.table_bytes);
    let text = format_args!(
        "  \"page_overhead\": {{\"bytes\": {overhead}}},\r\n  \"tables\": {{\"bytes\": {tables}}}\
         \r\n}},\r\n\"seats\": ["
    );
    put(out, text);
    for (index, seat) in audit.seats.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let text = format_args!(
            "{comma}\r\n  {{\"seat\": {}, \"pid\": {}, \"woken\": {}, \"log_words\": {}, \
             \"holds\": {}}}",
            seat.seat, seat.pid, seat.is_woken, seat.log_words, seat.holds
        );
        put(out, text);
    }
    put(out, format_args!("],\r\n\"violations\": ["));
    for (index, (name, count)) in audit.violations.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let text = format_args!("{comma}\r\n  {{\"name\": \"{name}\", \"count\": {count}}}");
        put(out, text);
    }
    put(out, format_args!("]}}\r\n"));
}

fn put(out: &mut Vec<u8>, text: core::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes what is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Amount, SeatState};

    #[test]
    fn a_report_is_json() {
        let audit = Audit {
            compared: true,
            bytes: 8192,
            table_bytes: 4096,
            page_bytes: 4096,
            pages: 1,
            free_pages: 1,
            kinds: vec![("messages_stored", Amount { count: 2, bytes: 160 })],
            seats: vec![SeatState { seat: 1, pid: 7, ..SeatState::default() }],
            violations: vec![("free_list", 1), ("bucket", 2)],
            ..Audit::default()
        };
        let mut out = Vec::new();
        render(&audit, &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let wanted = "{\"compared\":true,\"bytes\":8192,\"page_bytes\":4096,\
            \"pages\":{\"total\":1,\"free\":1,\"reserve\":0,\"seats\":0},\"kinds\":{\
            \"messages_stored\":{\"count\":2,\"bytes\":160},\
            \"free_pages\":{\"count\":1,\"bytes\":4096},\"seat_pages\":{\"count\":0,\"bytes\":0},\
            \"page_overhead\":{\"bytes\":0},\"tables\":{\"bytes\":4096}},\
            \"seats\":[{\"seat\":1,\"pid\":7,\"woken\":false,\"log_words\":0,\"holds\":0}],\
            \"violations\":[{\"name\":\"free_list\",\"count\":1},{\"name\":\"bucket\",\"count\":2}]}";
        assert_eq!(squeezed, wanted);
    }
}
