//! Asks a running site through its admin socket.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::Value;

/// Where the site is.
#[derive(clap::Args)]
pub(super) struct SiteAt {
    /// The site's data directory, which holds its admin socket.
    #[arg(long, value_name = "DIR", env = "PERSONA_DATA")]
    data: PathBuf,
}

impl SiteAt {
    /// The site with this data directory.
    pub(super) fn of(data: PathBuf) -> SiteAt {
        SiteAt { data }
    }

    /// Sends one request. A refusal becomes the site's own sentence.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let socket = self.data.join("admin.sock");
        let client = reqwest::Client::builder()
            .unix_socket(socket.clone())
            .build()
            .map_err(|error| error.to_string())?;
        let mut request = client.request(method, format!("http://site{path}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| unreachable_site(&socket, &error))?;
        let status = response.status();
        let answer: Value = response
            .json()
            .await
            .map_err(|error| format!("the site's answer ({status}) could not be read: {error}"))?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = |field: &str| {
            answer
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        Err(format!("{} ({status}, {})", text("message"), text("error")))
    }
}

fn unreachable_site(socket: &Path, error: &reqwest::Error) -> String {
    if error.is_connect() {
        format!(
            "no site answers at {}: is it running, and is --data its data directory?",
            socket.display()
        )
    } else {
        format!("the site at {} did not answer: {error}", socket.display())
    }
}
