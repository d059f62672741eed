//! Servers of the application's own that are asked, and wait for: by rules that `call`, and as the policy.
//!
//! - `endpoint`: one server: how many requests at once, for how long, and whether it is to be left alone.
//! - `policy`: what servers decide.

mod endpoint;
mod policy;

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result};
use signalbox_hooks::{HookClient, Signer};
use signalbox_node::{Called, Metrics, policy::Policy, rules::CallAnswer};

use crate::config::hooks::HookSettings;
use endpoint::Endpoint;
use policy::HookedPolicy;

/// The servers, by their names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hooks {
    endpoints: Arc<HashMap<String, Arc<Endpoint>>>,
}

impl Hooks {
    /// With these settings, which were checked.
    ///
    /// # Errors
    /// A secret, or the certificate authority, cannot be used.
    pub fn new(settings: &HookSettings, metrics: &Metrics) -> Result<Self> {
        let secrets = settings.hook_secret.iter().map(|secret| secret.parse());
        let signer = Signer::new(secrets.collect::<Result<_, _>>().context("--hook-secret")?);
        let mut endpoints = HashMap::new();
        for hook in &settings.hook {
            let authority = settings.hook_ca.as_deref();
            let client =
                HookClient::new(hook.address.clone(), signer.clone(), settings.hook_timeout, authority)
                    .context("--hook-ca")?;
            let endpoint = Endpoint::new(&hook.name, client, settings, metrics.clone());
            endpoints.insert(hook.name.clone(), Arc::new(endpoint));
        }
        Ok(Self { endpoints: Arc::new(endpoints) })
    }

    /// The policy, with what servers decide behind it.
    pub fn behind(&self, policy: Arc<dyn Policy>, settings: &HookSettings) -> Arc<dyn Policy> {
        let decides = settings.hook_policy.iter().filter_map(|it| {
            let endpoint = self.endpoints.get(&it.hook)?;
            Some((it.decides, endpoint.clone()))
        });
        let decides: Vec<_> = decides.collect();
        if decides.is_empty() { policy } else { Arc::new(HookedPolicy::new(policy, decides)) }
    }
}

impl signalbox_node::Hooks for Hooks {
    fn names(&self) -> Vec<String> {
        self.endpoints.keys().cloned().collect()
    }

    fn call(&self, hook: &str, body: String) -> Called {
        let endpoint = self.endpoints.get(hook).cloned();
        Box::pin(async move {
            let endpoint = endpoint?;
            let answer = endpoint.ask(body).await.ok()?;
            endpoint.read(&answer, CallAnswer::parse)
        })
    }
}
