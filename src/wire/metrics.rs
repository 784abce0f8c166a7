//! Metrics for Prometheus, in its text format or in OpenMetrics.
//!
//! Sources: Prometheus, "Exposition formats", text format 0.0.4; OpenMetrics 1.0.0.
//!
//! ```text
//!   text 0.0.4                                  OpenMetrics 1.0.0
//!   # HELP x_bytes_total What it is.            # TYPE x_bytes counter
//!   # TYPE x_bytes_total counter                # UNIT x_bytes bytes
//!   x_bytes_total{mode="polling"} 5             # HELP x_bytes What it is.
//!                                               x_bytes_total{mode="polling"} 5
//!                                               ...
//!                                               # EOF
//! ```
//!
//! The samples are the same in both. Every series is there from the start, with 0. All values are whole
//! numbers but for seconds. Lines end with LF.

use core::fmt::Display;
use std::io::Write;

use crate::model::{Delivery, Discard, Histogram, HistogramKind, Metrics, Reason, Removal, Source};

/// What all names begin with.
const PREFIX: &str = "nginx_push_stream_";

/// How metrics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format.
    #[default]
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// Chooses from the lines of `Accept`, which are one list. OpenMetrics is for clients that name it in version
    /// 1.0.0 and want text no more than that. All others get text, also if they accept neither.
    pub fn choose<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut open_metrics, mut text) = (0, Wish::default());
        for range in lines.into_iter().flat_map(|line| split(line, b',')) {
            let Some(range) = Range::parse(range) else { continue };
            let is = |name: &[u8]| range.media_type.eq_ignore_ascii_case(name);
            let version = range.version.as_slice();
            if is(b"application/openmetrics-text") {
                if version == b"1.0.0" {
                    open_metrics = open_metrics.max(range.quality);
                }
            } else if is(b"text/plain") {
                match version {
                    b"0.0.4" => text.note(3, range.quality),
                    b"" => text.note(2, range.quality),
                    _ => {}
                }
            } else if is(b"text/*") {
                text.note(1, range.quality);
            } else if is(b"*/*") {
                text.note(0, range.quality);
            }
        }
        if open_metrics > 0 && open_metrics >= text.quality {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How much the text format is wanted: the most exact range says it.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    exactness: u32,
    quality: u32,
}

impl Wish {
    fn note(&mut self, exactness: u32, quality: u32) {
        if exactness > self.exactness {
            *self = Self { exactness, quality };
        } else if exactness == self.exactness {
            self.quality = self.quality.max(quality);
        }
    }
}

/// One element of `Accept`.
struct Range<'a> {
    media_type: &'a [u8],
    version: Vec<u8>,
    /// In thousandths.
    quality: u32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = split(text, b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next()?;
        let mut range = Self { media_type, version: Vec::new(), quality: 1000 };
        for part in parts {
            let at = part.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (part[..at].trim_ascii(), part[at + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"version") {
                range.version = unquoted(value);
            } else if name.eq_ignore_ascii_case(b"q") {
                range.quality = quality(value)?;
            }
        }
        Some(range)
    }
}

/// The parts between these separators; those in quotes are none.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |byte| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match byte {
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        *byte == separator && !is_quoted
    })
}

/// The text of a token or a quoted string.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else { return value.to_vec() };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' { bytes.next() } else { Some(byte) };
        text.extend(byte);
    }
    text
}

/// `0`, `0.5`, `1.000`, in thousandths.
fn quality(value: &[u8]) -> Option<u32> {
    let (whole, digits) = match value {
        [whole] => (whole, &b""[..]),
        [whole, b'.', digits @ ..] => (whole, digits),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut thousandths = u32::from(whole - b'0');
    for place in 0..3 {
        let digit = digits.get(place).map_or(0, |digit| u32::from(digit - b'0'));
        thousandths = thousandths * 10 + digit;
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// What is running.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// Version of the module.
    pub version: &'a str,
    /// The commit that it was built from.
    pub commit: &'a str,
    /// Version of nginx.
    pub nginx: &'a str,
}

/// Appends all metrics.
pub fn render(format: Format, build: Build<'_>, metrics: &Metrics, out: &mut Vec<u8>) {
    let mut page = Page { format, out };
    page.process(build, metrics);
    page.channels(metrics);
    page.subscribers(metrics);
    page.messages(metrics);
    page.zone(metrics);
    if format == Format::OpenMetrics {
        page.line(format_args!("# EOF"));
    }
}

/// What a family of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
}

struct Page<'a> {
    format: Format,
    out: &'a mut Vec<u8>,
}

impl Page<'_> {
    fn process(&mut self, build: Build<'_>, metrics: &Metrics) {
        self.family("build_info", Kind::Gauge, "Always 1; what is running.");
        let Build { version, commit, nginx } = build;
        self.sample("build_info", &[("version", version), ("commit", commit), ("nginx", nginx)], 1);
        self.gauge("start_time_seconds", "Unix time when the zone was made.", metrics.start_time);
        let workers = metrics.workers.len();
        self.gauge("workers", "Workers that have a seat.", workers);
        self.family(
            "worker_subscribers",
            Kind::Gauge,
            "Open subscriber connections of each worker slot.",
        );
        for (slot, subscribers) in &metrics.workers {
            self.sample("worker_subscribers", &[("worker", &slot.to_string())], subscribers);
        }
        self.counter("worker_deaths", "Workers that died without leaving.", metrics.worker_deaths);
    }

    fn channels(&mut self, metrics: &Metrics) {
        let kinds = || ["normal", "wildcard"].into_iter().zip(&metrics.channels);
        self.family("channels", Kind::Gauge, "Live channels.");
        for (kind, channels) in kinds() {
            self.sample("channels", &[("kind", kind)], channels.live);
        }
        self.family("channels_created", Kind::Counter, "Channels made.");
        for (kind, channels) in kinds() {
            self.sample("channels_created_total", &[("kind", kind)], channels.created);
        }
        self.family("channels_removed", Kind::Counter, "Channels gone.");
        for (kind, channels) in kinds() {
            for (why, count) in Removal::ALL.into_iter().zip(channels.removed) {
                let labels = [("kind", kind), ("reason", why.text())];
                self.sample("channels_removed_total", &labels, count);
            }
        }
        self.gauge(
            "deleting_channels",
            "Deleted channels whose subscribers are not all told yet.",
            metrics.deleting_channels,
        );
        self.gauge(
            "trash_channels",
            "Discarded channels that are not freed yet.",
            metrics.trash_channels,
        );
    }

    fn subscribers(&mut self, metrics: &Metrics) {
        let modes = || Delivery::ALL.into_iter().map(Delivery::text).zip(&metrics.served);
        self.family("subscribers", Kind::Gauge, "Open subscriber connections.");
        for (mode, served) in modes() {
            self.sample("subscribers", &[("mode", mode)], served.open);
        }
        self.gauge(
            "subscriptions",
            "Open subscriptions, one for each channel of a connection.",
            metrics.subscriptions,
        );
        // For OpenMetrics a counter "subscribers" would be the same family as the gauge.
        self.family("accepted_subscribers", Kind::Counter, "Subscribers let in.");
        for (mode, served) in modes() {
            self.sample("accepted_subscribers_total", &[("mode", mode)], served.entered);
        }
        self.family("disconnects", Kind::Counter, "Subscribers that ended.");
        for (mode, served) in modes() {
            for (reason, count) in Reason::ALL.into_iter().zip(served.ended) {
                // Those were never let in.
                if reason != Reason::Refused {
                    let labels = [("mode", mode), ("reason", reason.text())];
                    self.sample("disconnects_total", &labels, count);
                }
            }
            let labels = [("mode", mode), ("reason", "worker_died")];
            self.sample("disconnects_total", &labels, served.died);
        }
        self.family("refusals", Kind::Counter, "Requests refused.");
        for (operation, reason, count) in &metrics.refusals {
            let labels = [("operation", operation.text()), ("reason", reason)];
            self.sample("refusals_total", &labels, count);
        }
        self.family(
            "delivered_messages",
            Kind::Counter,
            "Messages given to subscribers, old ones included, pings not.",
        );
        for (mode, served) in modes() {
            self.sample("delivered_messages_total", &[("mode", mode)], served.delivered);
        }
        self.family("replayed_messages", Kind::Counter, "Old messages given to subscribers.");
        for (mode, served) in modes() {
            self.sample("replayed_messages_total", &[("mode", mode)], served.replayed);
        }
        self.family("sent_bytes", Kind::Counter, "Bytes written to subscribers' sockets.");
        for (mode, served) in modes() {
            self.sample("sent_bytes_total", &[("mode", mode)], served.sent_bytes);
        }
        self.gauge(
            "buffered_bytes",
            "Bytes that wait for subscribers' sockets.",
            metrics.buffered_bytes,
        );
        self.histogram(
            "delivery_delay_seconds",
            "Time from the publish to the write, for each delivery.",
            &metrics.delays,
        );
    }

    fn messages(&mut self, metrics: &Metrics) {
        let sources = || Source::ALL.into_iter().map(Source::text).zip(metrics.published);
        self.family("published_messages", Kind::Counter, "Messages published.");
        for (source, (messages, _)) in sources() {
            self.sample("published_messages_total", &[("source", source)], messages);
        }
        self.family("published_bytes", Kind::Counter, "Bytes of the texts of published messages.");
        for (source, (_, bytes)) in sources() {
            self.sample("published_bytes_total", &[("source", source)], bytes);
        }
        self.histogram("message_size_bytes", "Sizes of published messages.", &metrics.sizes);
        self.gauge("stored_messages", "Messages stored.", metrics.stored_messages);
        self.gauge(
            "trash_messages",
            "Discarded messages that are not freed yet.",
            metrics.trash_messages,
        );
        self.family("discarded_messages", Kind::Counter, "Stored messages that were let go.");
        for (why, count) in Discard::ALL.into_iter().zip(metrics.discarded) {
            self.sample("discarded_messages_total", &[("reason", why.text())], count);
        }
    }

    fn zone(&mut self, metrics: &Metrics) {
        let zone = metrics.zone;
        self.family("zone_used_bytes", Kind::Gauge, "Bytes of the zone in use.");
        for (kind, bytes) in [
            ("messages", zone.messages),
            ("channels", zone.channels),
            ("interests", zone.interests),
            ("trash", zone.trash),
            ("tables", zone.tables),
            ("overhead", zone.overhead),
        ] {
            self.sample("zone_used_bytes", &[("kind", kind)], bytes);
        }
        self.gauge("zone_size_bytes", "Size of the zone's store.", zone.size);
        self.gauge(
            "zone_free_bytes",
            "Bytes of the zone that are free; those of the trash can be had besides.",
            zone.free,
        );
        self.gauge(
            "scrape_duration_seconds",
            "What the previous scrape took.",
            seconds(metrics.scrape_usec),
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Counter, help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, Kind::Histogram, help);
        let limits = histogram.kind.limits().iter().map(|(_, text)| *text).chain(["+Inf"]);
        let mut sum = 0;
        for (limit, count) in limits.zip(&histogram.counts) {
            sum += count;
            self.sample(&format!("{name}_bucket"), &[("le", limit)], sum);
        }
        match histogram.kind {
            HistogramKind::Delay => {
                self.sample(&format!("{name}_sum"), &[], seconds(histogram.sum));
            }
            HistogramKind::Size => self.sample(&format!("{name}_sum"), &[], histogram.sum),
        }
        self.sample(&format!("{name}_count"), &[], sum);
    }

    /// The lines before the samples of a family. The name of a counter is without `_total`.
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let word = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        match self.format {
            Format::Text => {
                let end = if kind == Kind::Counter { "_total" } else { "" };
                self.line(format_args!("# HELP {PREFIX}{name}{end} {help}"));
                self.line(format_args!("# TYPE {PREFIX}{name}{end} {word}"));
            }
            Format::OpenMetrics => {
                self.line(format_args!("# TYPE {PREFIX}{name} {word}"));
                let units = ["seconds", "bytes"].into_iter();
                for unit in units.filter(|unit| name.ends_with(&format!("_{unit}"))) {
                    self.line(format_args!("# UNIT {PREFIX}{name} {unit}"));
                }
                self.line(format_args!("# HELP {PREFIX}{name} {help}"));
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let mut text = String::new();
        for (number, (name, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            text.push(before);
            text.push_str(name);
            text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        self.line(format_args!("{PREFIX}{name}{text} {value}"));
    }

    fn line(&mut self, line: core::fmt::Arguments<'_>) {
        writeln!(self.out, "{line}").expect("memory takes what is written to it");
    }
}

/// Microseconds as seconds.
fn seconds(usec: u64) -> String {
    format!("{}.{:06}", usec / 1_000_000, usec % 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Operation;

    #[test]
    fn the_format_is_the_one_that_is_wanted_more() {
        const OPEN: &str = "application/openmetrics-text;version=1.0.0";
        let prometheus_2 = format!(
            "{OPEN},application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,\
             */*;q=0.1"
        );
        let prometheus_3 = format!(
            "{OPEN};escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
        for (accept, is_open) in [
            (OPEN, true),
            (prometheus_2.as_str(), true),
            (prometheus_3.as_str(), true),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", true),
            ("APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=1.000", true),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4", true),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.5",
                true,
            ),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=9;q=0.9", true),
            // The most exact range says how much text is wanted.
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1,*/*", true),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.501", false),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4", false),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/*;q=0.6", false),
            ("application/openmetrics-text;version=1.0.0;q=0.5,*/*", false),
            ("application/openmetrics-text;version=1.0.0;q=0", false),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;version=2.0.0", false),
            ("application/openmetrics-text", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("*/*", false),
            ("", false),
            // What nobody can read counts for nothing.
            ("application/openmetrics-text;version=1.0.0;q=1.5", false),
            ("application/openmetrics-text;version=1.0.0;q=", false),
            ("application/openmetrics-text;version=1.0.0;q=0.1234", false),
            ("application/openmetrics-text;version", false),
            ("x/y;a=\",application/openmetrics-text;version=1.0.0,\"", false),
            (";;;,,,;=,\"\\", false),
        ] {
            let expected = if is_open { Format::OpenMetrics } else { Format::Text };
            assert_eq!(Format::choose([accept.as_bytes()]), expected, "{accept}");
        }
        assert_eq!(Format::choose([]), Format::Text);
        let lines = ["text/plain;q=0.3", "application/openmetrics-text;version=1.0.0;q=0.4"];
        assert_eq!(Format::choose(lines.map(str::as_bytes)), Format::OpenMetrics, "one list");
    }

    fn some() -> Metrics {
        let mut metrics = Metrics {
            start_time: 1_800_000_000,
            workers: vec![(0, 3), (1, 4)],
            worker_deaths: 2,
            refusals: vec![
                (Operation::Publish, "no_memory", 7),
                (Operation::Delete, "no_channel_id", 0),
            ],
            scrape_usec: 1_000_250,
            ..Metrics::default()
        };
        metrics.served[0].ended[Reason::Slow.number()] = 5;
        metrics.served[2].died = 6;
        metrics.delays.counts[0] = 2;
        metrics.delays.counts[16] = 1;
        metrics.delays.sum = 11_000_150;
        metrics.sizes.counts[1] = 4;
        metrics.sizes.sum = 400;
        metrics
    }

    fn rendered(format: Format, metrics: &Metrics) -> String {
        let build = Build { version: "0.1.0", commit: "a\\b\"c\nd", nginx: "1.22.1" };
        let mut out = Vec::new();
        render(format, build, metrics, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    /// The samples by name and labels.
    fn samples(text: &str) -> BTreeMap<&str, &str> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| line.rsplit_once(' ').expect("a value"));
        let found: BTreeMap<&str, &str> = samples.clone().collect();
        assert_eq!(found.len(), samples.count(), "each series once");
        found
    }

    #[test]
    fn both_formats_say_the_same() {
        let metrics = some();
        let (text, open) =
            (rendered(Format::Text, &metrics), rendered(Format::OpenMetrics, &metrics));
        assert_eq!(samples(&text), samples(&open));
        assert!(open.ends_with("\n# EOF\n") && !text.contains("EOF"));
        for text in [&text, &open] {
            assert!(!text.contains("\n\n") && !text.contains('\r'));
        }
    }

    #[test]
    fn a_family_is_announced_as_its_format_wants_it() {
        let metrics = some();
        let text = rendered(Format::Text, &metrics);
        assert!(text.contains(
            "# HELP nginx_push_stream_sent_bytes_total Bytes written to subscribers' sockets.\n\
             # TYPE nginx_push_stream_sent_bytes_total counter\n\
             nginx_push_stream_sent_bytes_total{mode=\"streaming\"} 0\n"
        ));
        let open = rendered(Format::OpenMetrics, &metrics);
        assert!(open.contains(
            "# TYPE nginx_push_stream_sent_bytes counter\n\
             # UNIT nginx_push_stream_sent_bytes bytes\n\
             # HELP nginx_push_stream_sent_bytes Bytes written to subscribers' sockets.\n\
             nginx_push_stream_sent_bytes_total{mode=\"streaming\"} 0\n"
        ));
        for format in [Format::Text, Format::OpenMetrics] {
            let text = rendered(format, &metrics);
            let types = text.lines().filter(|line| line.starts_with("# TYPE "));
            let mut names: Vec<&str> = types.filter_map(|line| line.split(' ').nth(2)).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "no two families have one name");
        }
    }

    #[test]
    fn the_samples_are_these() {
        let text = rendered(Format::Text, &some());
        let found = samples(&text);
        for (series, value) in [
            ("build_info{version=\"0.1.0\",commit=\"a\\\\b\\\"c\\nd\",nginx=\"1.22.1\"}", "1"),
            ("start_time_seconds", "1800000000"),
            ("workers", "2"),
            ("worker_subscribers{worker=\"1\"}", "4"),
            ("worker_deaths_total", "2"),
            ("disconnects_total{mode=\"streaming\",reason=\"slow\"}", "5"),
            ("disconnects_total{mode=\"websocket\",reason=\"worker_died\"}", "6"),
            ("refusals_total{operation=\"publish\",reason=\"no_memory\"}", "7"),
            ("delivery_delay_seconds_bucket{le=\"0.0001\"}", "2"),
            ("delivery_delay_seconds_bucket{le=\"10.0\"}", "2"),
            ("delivery_delay_seconds_bucket{le=\"+Inf\"}", "3"),
            ("delivery_delay_seconds_sum", "11.000150"),
            ("delivery_delay_seconds_count", "3"),
            ("message_size_bytes_bucket{le=\"64.0\"}", "0"),
            ("message_size_bytes_bucket{le=\"256.0\"}", "4"),
            ("message_size_bytes_sum", "400"),
            ("scrape_duration_seconds", "1.000250"),
        ] {
            let series = format!("{PREFIX}{series}");
            assert_eq!(found.get(series.as_str()), Some(&value), "{series}");
        }
        assert!(!text.contains("refused\""), "a refused subscriber is none that ends");
    }
}
