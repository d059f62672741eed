//! Where each setting came from.

use std::collections::HashMap;

use crate::error::SettingSource;

/// Where each setting came from; one that is missing has its default.
#[derive(Debug, Default)]
pub struct SettingSources(pub(crate) HashMap<String, SettingSource>);

impl SettingSources {
    /// Where the setting of this name came from.
    pub fn of(&self, name: &str) -> &SettingSource {
        self.0.get(name).unwrap_or(&SettingSource::Default)
    }
}
