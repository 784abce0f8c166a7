//! The server's statistics, read from their JSON.

use crate::server::Nginx;

/// The summary's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) channels: u64,
    pub(crate) published: u64,
    pub(crate) stored: u64,
    pub(crate) messages_in_trash: u64,
    pub(crate) channels_in_delete: u64,
    pub(crate) channels_in_trash: u64,
    pub(crate) subscribers: u64,
}

/// The number in the first field of that name of a JSON object without nested objects.
pub(crate) fn number(json: &str, name: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{name}\": "))?;
    let digits = rest.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The summary of a statistics location at `/stats`.
pub(crate) fn summary(nginx: &Nginx) -> Result<Summary, String> {
    let response = nginx.ask("GET", "/stats", b"")?;
    let json = String::from_utf8_lossy(&response.body);
    let field =
        |name| number(&json, name).ok_or(format!("no \"{name}\" in the statistics: {json}"));
    Ok(Summary {
        channels: field("channels")? + field("wildcard_channels")?,
        published: field("published_messages")?,
        stored: field("stored_messages")?,
        messages_in_trash: field("messages_in_trash")?,
        channels_in_delete: field("channels_in_delete")?,
        channels_in_trash: field("channels_in_trash")?,
        subscribers: field("subscribers")?,
    })
}

/// A number in the statistics of one channel; `None` if there is no such channel.
pub(crate) fn of_channel(nginx: &Nginx, channel: &str, name: &str) -> Result<Option<u64>, String> {
    let response = nginx.ask("GET", &format!("/stats?id={channel}"), b"")?;
    if response.status == 404 {
        return Ok(None);
    }
    let json = String::from_utf8_lossy(&response.body);
    number(&json, name).map(Some).ok_or(format!("no number in {json}"))
}

/// Messages published to one channel, as the server counts them; `None` if there is no such channel.
pub(crate) fn published(nginx: &Nginx, channel: &str) -> Result<Option<u64>, String> {
    of_channel(nginx, channel, "published_messages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_numbers() {
        let json = r#"{"channel": "a", "published_messages": 17, "stored_messages": 3}"#;
        assert_eq!(number(json, "published_messages"), Some(17));
        assert_eq!(number(json, "stored_messages"), Some(3));
        assert_eq!(number(json, "subscribers"), None);
    }
}
