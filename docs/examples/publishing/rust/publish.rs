//! publish SERVER CHANNEL EVENT_ID < text

use std::io::Read;
use std::time::Duration;

/// One agent for the whole program: it keeps connections open.
fn publish(
    agent: &ureq::Agent,
    server: &str,
    channel: &str,
    text: &[u8],
    event_id: &str,
) -> Result<String, ureq::Error> {
    agent
        .post(format!("{server}/pub"))
        .query("id", channel)
        .header("Event-Id", event_id)
        .send(text)? // an error if the status is not 2xx
        .body_mut()
        .read_to_string()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .new_agent();
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("SERVER CHANNEL EVENT_ID");
    let (server, channel, event_id) = (next()?, next()?, next()?);
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    publish(&agent, &server, &channel, &text, &event_id)?;
    Ok(())
}
