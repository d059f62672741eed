//! Requests to the admin API; `stream`: what happens, over a WebSocket.

mod stream;

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use signalbox_tls::client::{ClientSettings, agent};
use ureq::{Agent, Body, RequestBuilder, http::Response};

pub(super) use self::stream::{EventStream, Refusal, Told, is_position};

/// How long an answer may take: acknowledgements are waited for half a minute.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Largest answer in bytes.
const MAX_ANSWER: u64 = 32 << 20;
/// Entries of a page.
const LIMIT: &str = "1000";

/// What is done with what a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    pub(super) const ALL: [Self; 4] = [Self::Get, Self::Post, Self::Put, Self::Delete];

    /// As descriptions of APIs have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }
}

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
            let page = [("limit", Some(LIMIT)), ("after", after.as_deref())];
            let given = parameters.iter().chain(&page);
            let given = given.filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned())));
            let mut page = self.call(Method::Get, path, &given.collect::<Vec<_>>(), None)?;
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

    /// One thing.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::Get, path, &[], None)
    }

    /// Has one thing end.
    pub(super) fn delete(&self, path: &str) -> Result<Value> {
        self.call(Method::Delete, path, &[], None)
    }

    /// Has something done.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::Post, path, &[], Some(body))
    }

    /// Has something set.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::Put, path, &[], Some(body))
    }

    /// One request; names in the path are segments already.
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(String, String)],
        body: Option<&Value>,
    ) -> Result<Value> {
        let url = format!("{}/{path}", self.url);
        self.read(match method {
            Method::Get => self.prepared(self.agent.get(url), query).call(),
            Method::Delete => self.prepared(self.agent.delete(url), query).call(),
            Method::Post | Method::Put => {
                let request = if method == Method::Post { self.agent.post(url) } else { self.agent.put(url) };
                let request = self.prepared(request, query).header("Content-Type", "application/json");
                request.send(body.unwrap_or(&Value::Null).to_string())
            }
        })
    }

    fn prepared<B>(&self, request: RequestBuilder<B>, query: &[(String, String)]) -> RequestBuilder<B> {
        let request = query.iter().fold(request, |request, (name, value)| request.query(name, value));
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value> {
        let mut answer = answer.with_context(|| format!("{} cannot be asked (--url)", self.url))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, value) {
            (200..=299, Some(value)) => Ok(value),
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
