//! Formats of channel statistics: one channel, a list, the summary; in plain text, JSON, YAML, XML.
//!
//! Source: docs/protocol.md, "Statistics". Tools parse these bytes, so their oddities stay: plain
//! text says `active_subscribers`, JSON quotes `pid` and no other number, and YAML is indented for
//! one channel and in the summary only.
//!
//! A list is rendered item by item ([`List`]), because it can have hundreds of thousands. The
//! caller decides how many fit into one buffer. Every line ends with CRLF.

use crate::model::{ChannelInfo, Seconds, Summary, Totals, WorkerInfo};
use crate::wire::accept::Format;
use crate::wire::template::push_decimal;
use crate::wire::{date, escape};

const XML_HEAD: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n";

/// Where and when a list or a summary was made.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The host name, as nginx knows it.
    pub hostname: &'a [u8],
    /// The present time.
    pub time: Seconds,
}

/// Appends the form for one channel.
pub fn render_channel<Id: AsRef<[u8]>>(
    format: Format,
    channel: &ChannelInfo<Id>,
    out: &mut Vec<u8>,
) {
    if format == Format::Xml {
        out.extend_from_slice(XML_HEAD);
    }
    render_item(format, channel, out);
    out.extend_from_slice(b"\r\n");
}

/// A list that is being rendered: [`List::begin`], [`List::item`] for each channel, [`List::end`].
#[derive(Debug)]
pub struct List {
    format: Format,
    has_items: bool,
}

impl List {
    /// Appends what comes before the channels.
    pub fn begin(format: Format, origin: Origin<'_>, totals: &Totals, out: &mut Vec<u8>) -> Self {
        let (before, joint) = match format {
            Format::Plain => ("", ", "),
            Format::Json | Format::XJson => ("{", ", "),
            Format::Yaml | Format::XYaml => ("", "\r\n"),
            Format::Xml => ("<root>\r\n  ", "\r\n  "),
        };
        if format == Format::Xml {
            out.extend_from_slice(XML_HEAD);
        }
        out.extend_from_slice(before.as_bytes());
        let mut fields = Fields { format, joint, out };
        fields.origin(origin);
        fields.number("channels", totals.channels);
        fields.number("wildcard_channels", totals.wildcard_channels);
        fields.number("uptime", totals.uptime);
        out.extend_from_slice(match format {
            Format::Plain | Format::Yaml | Format::XYaml => b"infos: \r\n",
            Format::Json | Format::XJson => b"\"infos\": [\r\n",
            Format::Xml => b"<infos>\r\n",
        });
        Self { format, has_items: false }
    }

    /// Appends one channel, and before it what separates it from the one before.
    pub fn item<Id: AsRef<[u8]>>(&mut self, channel: &ChannelInfo<Id>, out: &mut Vec<u8>) {
        if self.has_items {
            out.extend_from_slice(match self.format {
                Format::Plain | Format::Json | Format::XJson => b",\r\n",
                Format::Yaml | Format::XYaml => b"\r\n",
                Format::Xml => b"",
            });
        }
        self.has_items = true;
        if matches!(self.format, Format::Yaml | Format::XYaml) {
            out.extend_from_slice(b" -\r\n");
        }
        render_item(self.format, channel, out);
    }

    /// Appends what comes after the channels.
    pub fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.format {
            Format::Plain | Format::Yaml | Format::XYaml => b"\r\n",
            Format::Json | Format::XJson if self.has_items => b"\r\n]}\r\n",
            Format::Json | Format::XJson => b"]}\r\n",
            Format::Xml => b"  </infos>\r\n</root>\r\n",
        });
    }
}

/// Appends the summary.
pub fn render_summary(format: Format, origin: Origin<'_>, summary: &Summary, out: &mut Vec<u8>) {
    let (before, joint) = match format {
        Format::Plain => ("", "\r\n"),
        Format::Json | Format::XJson => ("{", ", "),
        Format::Yaml | Format::XYaml => ("  ", "\r\n  "),
        Format::Xml => ("<infos>\r\n  ", "\r\n  "),
    };
    if format == Format::Xml {
        out.extend_from_slice(XML_HEAD);
    }
    out.extend_from_slice(before.as_bytes());
    let mut fields = Fields { format, joint, out };
    fields.origin(origin);
    fields.number("channels", summary.totals.channels);
    fields.number("wildcard_channels", summary.totals.wildcard_channels);
    fields.number("published_messages", summary.published);
    fields.number("stored_messages", summary.stored);
    fields.number("messages_in_trash", summary.messages_in_trash);
    fields.number("channels_in_delete", summary.channels_in_delete);
    fields.number("channels_in_trash", summary.channels_in_trash);
    fields.number("subscribers", summary.subscribers);
    fields.number("uptime", summary.totals.uptime);
    out.extend_from_slice(match format {
        Format::Plain | Format::Yaml | Format::XYaml => b"by_worker:\r\n",
        Format::Json | Format::XJson => b"\"by_worker\": [\r\n",
        Format::Xml => b"<by_worker>",
    });
    for (index, worker) in summary.workers.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(match format {
                Format::Plain | Format::Json | Format::XJson => b",\r\n",
                Format::Yaml | Format::XYaml | Format::Xml => b"\r\n",
            });
        }
        render_worker(format, worker, out);
    }
    out.extend_from_slice(match format {
        Format::Plain | Format::Yaml | Format::XYaml => b"\r\n",
        Format::Json | Format::XJson => b"\r\n]}\r\n",
        Format::Xml if summary.workers.is_empty() => b"</by_worker>\r\n</infos>\r\n",
        Format::Xml => b"\r\n</by_worker>\r\n</infos>\r\n",
    });
}

/// The fields of a head, each with the separator that follows it.
struct Fields<'a> {
    format: Format,
    joint: &'static str,
    out: &'a mut Vec<u8>,
}

impl Fields<'_> {
    fn origin(&mut self, origin: Origin<'_>) {
        self.text("hostname", origin.hostname);
        self.text("time", &date::iso_date(origin.time));
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        let format = self.format;
        self.field(name, |out| match format {
            Format::Json | Format::XJson => {
                out.push(b'"');
                escape::json(text, out);
                out.push(b'"');
            }
            Format::Plain | Format::Yaml | Format::XYaml => escape::line(text, out),
            Format::Xml => escape::xml(text, out),
        });
    }

    fn number(&mut self, name: &str, number: u64) {
        self.field(name, |out| push_decimal(number, out));
    }

    fn field(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        let (before, between, after) = match self.format {
            Format::Plain | Format::Yaml | Format::XYaml => ("", ": ", ""),
            Format::Json | Format::XJson => ("\"", "\": ", ""),
            Format::Xml => ("<", ">", "</"),
        };
        for text in [before, name, between] {
            self.out.extend_from_slice(text.as_bytes());
        }
        value(self.out);
        if !after.is_empty() {
            for text in [after, name, ">"] {
                self.out.extend_from_slice(text.as_bytes());
            }
        }
        self.out.extend_from_slice(self.joint.as_bytes());
    }
}

/// One channel, without the last line end; in XML with it, because nothing separates items there.
fn render_item<Id: AsRef<[u8]>>(format: Format, channel: &ChannelInfo<Id>, out: &mut Vec<u8>) {
    let ChannelInfo { id, published, stored, subscribers, .. } = channel;
    let id = id.as_ref();
    let numbers = [*published, *stored, *subscribers];
    match format {
        Format::Plain => {
            out.extend_from_slice(b"channel: ");
            escape::line(id, out);
            let before =
                ["\r\npublished_messages: ", "\r\nstored_messages: ", "\r\nactive_subscribers: "];
            print(before, numbers, "", out);
        }
        Format::Json | Format::XJson => {
            out.extend_from_slice(b"{\"channel\": \"");
            escape::json(id, out);
            let before =
                ["\", \"published_messages\": ", ", \"stored_messages\": ", ", \"subscribers\": "];
            print(before, numbers, "}", out);
        }
        Format::Yaml | Format::XYaml => {
            out.extend_from_slice(b"  channel: ");
            escape::line(id, out);
            let before =
                ["\r\n  published_messages: ", "\r\n  stored_messages: ", "\r\n  subscribers: "];
            print(before, numbers, "", out);
        }
        Format::Xml => {
            out.extend_from_slice(b"<channel>\r\n  <name>");
            escape::xml(id, out);
            let before = [
                "</name>\r\n  <published_messages>",
                "</published_messages>\r\n  <stored_messages>",
                "</stored_messages>\r\n  <subscribers>",
            ];
            print(before, numbers, "</subscribers>\r\n</channel>\r\n", out);
        }
    }
}

fn render_worker(format: Format, worker: &WorkerInfo, out: &mut Vec<u8>) {
    let numbers = [u64::from(worker.pid), worker.subscribers, worker.uptime];
    let (before, end) = match format {
        Format::Plain => (["  pid: ", "\r\n  subscribers: ", "\r\n  uptime: "], ""),
        Format::Json | Format::XJson => {
            (["{\"pid\": \"", "\", \"subscribers\": ", ", \"uptime\": "], "}")
        }
        Format::Yaml | Format::XYaml => {
            (["   -\r\n    pid: ", "\r\n    subscribers: ", "\r\n    uptime: "], "")
        }
        Format::Xml => {
            let before = [
                "<worker>\r\n  <pid>",
                "</pid>\r\n  <subscribers>",
                "</subscribers>\r\n  <uptime>",
            ];
            (before, "</uptime>\r\n</worker>")
        }
    };
    print(before, numbers, end, out);
}

/// Appends numbers, each after its text, and then `end`.
fn print<const N: usize>(before: [&str; N], numbers: [u64; N], end: &str, out: &mut Vec<u8>) {
    for (text, number) in before.into_iter().zip(numbers) {
        out.extend_from_slice(text.as_bytes());
        push_decimal(number, out);
    }
    out.extend_from_slice(end.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'_> = Origin { hostname: b"web1", time: 1_777_972_087 };
    const TOTALS: Totals = Totals { channels: 2, wildcard_channels: 0, uptime: 61 };

    fn channel(id: &str, published: u64, stored: u64, subscribers: u64) -> ChannelInfo {
        ChannelInfo { id: id.into(), published, stored, subscribers, created: 0 }
    }

    fn single(format: Format, id: &str) -> String {
        let mut out = Vec::new();
        render_channel(format, &channel(id, 7, 3, 2), &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn list(format: Format, channels: &[ChannelInfo]) -> String {
        let mut out = Vec::new();
        let mut list = List::begin(format, ORIGIN, &TOTALS, &mut out);
        for channel in channels {
            list.item(channel, &mut out);
        }
        list.end(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn summary(format: Format, workers: &[WorkerInfo]) -> String {
        let summary = Summary {
            totals: Totals { channels: 2, wildcard_channels: 1, uptime: 61 },
            published: 8,
            stored: 4,
            subscribers: 2,
            workers: workers.to_vec(),
            ..Summary::default()
        };
        let mut out = Vec::new();
        render_summary(format, ORIGIN, &summary, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    /// The document's examples have plain line ends.
    fn crlf(text: &str) -> String {
        text.replace('\n', "\r\n")
    }

    #[test]
    fn single_forms() {
        let json = "{\"channel\": \"news\", \"published_messages\": 7, \"stored_messages\": 3, \
                    \"subscribers\": 2}\r\n";
        assert_eq!(json.len(), 86);
        assert_eq!(single(Format::Json, "news"), json);
        assert_eq!(single(Format::XJson, "news"), json);
        assert_eq!(
            single(Format::Plain, "news"),
            crlf(
                "channel: news\npublished_messages: 7\nstored_messages: 3\nactive_subscribers: 2\n"
            )
        );
        let yaml = crlf(
            "  channel: news\n  published_messages: 7\n  stored_messages: 3\n  subscribers: 2\n",
        );
        assert_eq!(single(Format::Yaml, "news"), yaml);
        assert_eq!(single(Format::XYaml, "news"), yaml);
        assert_eq!(
            single(Format::Xml, "news"),
            crlf(
                "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<channel>\n  <name>news</name>\n  \
                 <published_messages>7</published_messages>\n  \
                 <stored_messages>3</stored_messages>\n  <subscribers>2</subscribers>\n\
                 </channel>\n\n"
            )
        );
    }

    #[test]
    fn ids_are_escaped() {
        assert!(single(Format::Json, "a\"b\n").contains("\"channel\": \"a\\\"b\\n\","));
        assert!(single(Format::Xml, "<a>").contains("<name>&lt;a&gt;</name>"));
        assert!(single(Format::Plain, "a\nb").starts_with("channel: a\u{fffd}b\r\n"));
        assert!(single(Format::Yaml, "a\rb").starts_with("  channel: a\u{fffd}b\r\n"));
    }

    #[test]
    fn lists() {
        let channels = [channel("news", 7, 3, 2), channel("tech", 1, 1, 0)];
        assert_eq!(
            list(Format::Json, &channels),
            crlf(
                "{\"hostname\": \"web1\", \"time\": \"2026-05-05T09:08:07\", \"channels\": 2, \
                 \"wildcard_channels\": 0, \"uptime\": 61, \"infos\": [\n\
                 {\"channel\": \"news\", \"published_messages\": 7, \"stored_messages\": 3, \
                 \"subscribers\": 2},\n\
                 {\"channel\": \"tech\", \"published_messages\": 1, \"stored_messages\": 1, \
                 \"subscribers\": 0}\n]}\n"
            )
        );
        assert_eq!(
            list(Format::Plain, &channels),
            crlf(
                "hostname: web1, time: 2026-05-05T09:08:07, channels: 2, wildcard_channels: 0, \
                 uptime: 61, infos: \nchannel: news\npublished_messages: 7\nstored_messages: 3\n\
                 active_subscribers: 2,\nchannel: tech\npublished_messages: 1\nstored_messages: 1\n\
                 active_subscribers: 0\n"
            )
        );
        assert_eq!(
            list(Format::Yaml, &channels),
            crlf(
                "hostname: web1\ntime: 2026-05-05T09:08:07\nchannels: 2\nwildcard_channels: 0\n\
                 uptime: 61\ninfos: \n -\n  channel: news\n  published_messages: 7\n  \
                 stored_messages: 3\n  subscribers: 2\n -\n  channel: tech\n  \
                 published_messages: 1\n  stored_messages: 1\n  subscribers: 0\n"
            )
        );
        assert_eq!(
            list(Format::Xml, &channels),
            crlf(
                "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<root>\n  <hostname>web1</hostname>\n  \
                 <time>2026-05-05T09:08:07</time>\n  <channels>2</channels>\n  \
                 <wildcard_channels>0</wildcard_channels>\n  <uptime>61</uptime>\n  <infos>\n\
                 <channel>\n  <name>news</name>\n  <published_messages>7</published_messages>\n  \
                 <stored_messages>3</stored_messages>\n  <subscribers>2</subscribers>\n</channel>\n\
                 <channel>\n  <name>tech</name>\n  <published_messages>1</published_messages>\n  \
                 <stored_messages>1</stored_messages>\n  <subscribers>0</subscribers>\n</channel>\n  \
                 </infos>\n</root>\n"
            )
        );
    }

    #[test]
    fn lists_without_items() {
        assert!(list(Format::Json, &[]).ends_with("\"uptime\": 61, \"infos\": [\r\n]}\r\n"));
        assert!(list(Format::Plain, &[]).ends_with("uptime: 61, infos: \r\n\r\n"));
        assert!(list(Format::Yaml, &[]).ends_with("uptime: 61\r\ninfos: \r\n\r\n"));
        assert!(list(Format::Xml, &[]).ends_with("  <infos>\r\n  </infos>\r\n</root>\r\n"));
    }

    #[test]
    fn summaries() {
        let workers = [
            WorkerInfo { pid: 4711, subscribers: 2, uptime: 61 },
            WorkerInfo { pid: 4712, subscribers: 0, uptime: 61 },
        ];
        assert_eq!(
            summary(Format::Json, &workers),
            crlf(
                "{\"hostname\": \"web1\", \"time\": \"2026-05-05T09:08:07\", \"channels\": 2, \
                 \"wildcard_channels\": 1, \"published_messages\": 8, \"stored_messages\": 4, \
                 \"messages_in_trash\": 0, \"channels_in_delete\": 0, \"channels_in_trash\": 0, \
                 \"subscribers\": 2, \"uptime\": 61, \"by_worker\": [\n\
                 {\"pid\": \"4711\", \"subscribers\": 2, \"uptime\": 61},\n\
                 {\"pid\": \"4712\", \"subscribers\": 0, \"uptime\": 61}\n]}\n"
            )
        );
        let names = [
            ("hostname", "web1"),
            ("time", "2026-05-05T09:08:07"),
            ("channels", "2"),
            ("wildcard_channels", "1"),
            ("published_messages", "8"),
            ("stored_messages", "4"),
            ("messages_in_trash", "0"),
            ("channels_in_delete", "0"),
            ("channels_in_trash", "0"),
            ("subscribers", "2"),
            ("uptime", "61"),
        ];
        let plain: String =
            names.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let by_worker = crlf(
            "by_worker:\n  pid: 4711\n  subscribers: 2\n  uptime: 61,\n  pid: 4712\n  \
             subscribers: 0\n  uptime: 61\n",
        );
        assert_eq!(summary(Format::Plain, &workers), plain + &by_worker);

        let yaml: String =
            names.iter().map(|(name, value)| format!("  {name}: {value}\r\n")).collect();
        let by_worker = crlf(
            "  by_worker:\n   -\n    pid: 4711\n    subscribers: 2\n    uptime: 61\n   -\n    \
             pid: 4712\n    subscribers: 0\n    uptime: 61\n",
        );
        assert_eq!(summary(Format::Yaml, &workers), yaml + &by_worker);

        let xml: String =
            names.iter().map(|(name, value)| format!("  <{name}>{value}</{name}>\r\n")).collect();
        let by_worker = crlf(
            "  <by_worker><worker>\n  <pid>4711</pid>\n  <subscribers>2</subscribers>\n  \
             <uptime>61</uptime>\n</worker>\n<worker>\n  <pid>4712</pid>\n  \
             <subscribers>0</subscribers>\n  <uptime>61</uptime>\n</worker>\n</by_worker>\n\
             </infos>\n",
        );
        let head = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<infos>\r\n";
        assert_eq!(summary(Format::Xml, &workers), format!("{head}{xml}{by_worker}"));
    }

    #[test]
    fn a_summary_without_workers_is_well_formed() {
        assert!(summary(Format::Json, &[]).ends_with("\"by_worker\": [\r\n\r\n]}\r\n"));
        assert!(summary(Format::Xml, &[]).ends_with("<by_worker></by_worker>\r\n</infos>\r\n"));
    }
}
