//! Requests to the admin API.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use signalbox_tls::client::{ClientSettings, agent};
use ureq::{Agent, Body, http::Response};

/// How long an answer may take: acknowledgements are waited for half a minute.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Largest answer in bytes.
const MAX_ANSWER: u64 = 32 << 20;
/// Entries of a page.
const LIMIT: &str = "1000";

/// The API of a node.
pub(super) struct Client {
    agent: Agent,
    url: String,
    token: Option<String>,
}

/// A list, with the nodes whose part is missing.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    pub(super) partial: Vec<Value>,
}

/// A name as part of a path.
pub(super) fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl Client {
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self> {
        let settings = ClientSettings { timeout: TIMEOUT, authority: None, uses_proxy: false };
        let url = format!("{}/admin/v1", url.trim_end_matches('/'));
        Ok(Self { agent: agent(&settings)?, url, token: token.map(str::to_owned) })
    }

    /// All pages of a list. A parameter that is `None` is left out.
    pub(super) fn list(&self, path: &str, parameters: &[(&str, Option<&str>)]) -> Result<Listed> {
        let mut listed = Listed::default();
        let mut after: Option<String> = None;
        loop {
            let mut request = self.agent.get(format!("{}/{path}", self.url));
            if path != "nodes" {
                request = request.query("limit", LIMIT);
            }
            for (name, value) in parameters {
                if let Some(value) = value {
                    request = request.query(*name, *value);
                }
            }
            if let Some(after) = &after {
                request = request.query("after", after);
            }
            if let Some(token) = &self.token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let mut page = self.read(request.call())?;
            if let Some(items) = page["items"].as_array_mut() {
                listed.items.append(items);
            }
            for missing in page["partial"].as_array().into_iter().flatten() {
                if !listed.partial.contains(missing) {
                    listed.partial.push(missing.clone());
                }
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                return Ok(listed);
            }
        }
    }

    /// Has something done.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut request =
            self.agent.post(format!("{}/{path}", self.url)).header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.read(request.send(body.to_string()))
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value> {
        let mut answer = answer.with_context(|| format!("{} cannot be asked (--url)", self.url))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, value) {
            (200, Some(value)) => Ok(value),
            (401 | 403, Some(problem)) => {
                let detail = problem["detail"].as_str().unwrap_or_default();
                Err(anyhow!("{detail} (--token, --token-file or SIGNALBOX_ADMIN_TOKEN)"))
            }
            (_, Some(problem)) if problem["detail"].is_string() => {
                Err(anyhow!("{}", problem["detail"].as_str().unwrap_or_default()))
            }
            _ => bail!("{} answers {status}: is this the management listener of a node? (--url)", self.url),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_is_one_segment_whatever_is_in_it() {
        assert_eq!(super::segment("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
        assert_eq!(super::segment("a-b_c.d~E9"), "a-b_c.d~E9");
    }
}
