//! The `EXEAT_*` variables. A name nobody reads is a typing slip until proven otherwise: it is warned of.

use super::layer::{Key, Layer, Origin};
use crate::engine::words::nearest;

const PREFIX: &str = "EXEAT_";
/// Not settings: read by `main` before there is a config, and set by `exec` for its child.
const OTHERS: [&str; 2] = ["EXEAT_LOG", "EXEAT_EXEC"];

/// The variable of a setting; `None` for what is a flag or file key only (it changes which address is dialled, and an
/// environment is too easily inherited for that).
pub fn variable(key: Key) -> Option<String> {
    (key != Key::ConnectTo)
        .then(|| format!("{PREFIX}{}", key.as_str().replace('.', "_").to_ascii_uppercase()))
}

/// What the environment says, and warnings about what it says in vain. An empty value counts as none.
pub(super) fn read(
    names: impl IntoIterator<Item = String>,
    lookup: impl Fn(&str) -> Option<String>,
) -> (Layer, Vec<String>) {
    let known: Vec<(Key, String)> =
        Key::ALL.iter().filter_map(|key| variable(*key).map(|name| (*key, name))).collect();
    let mut layer = Layer::default();
    let mut policy_variable = None;
    for (key, name) in &known {
        let Some(text) = lookup(name).filter(|text| !text.is_empty()) else { continue };
        let origin = || Origin::Variable(name.clone());
        match key {
            // Like PATH.
            Key::UpstreamCa => {
                text.split(':').filter(|file| !file.is_empty()).for_each(|f| layer.push(*key, f, origin()));
            }
            Key::RecordsData | Key::RecordsHidePaths | Key::RecordsHidePatterns => {
                let values = text.split(',').map(str::trim).filter(|value| !value.is_empty());
                values.for_each(|value| layer.push(*key, value, origin()));
            }
            Key::Policy => {
                policy_variable = text.strip_prefix("env:").map(str::to_owned);
                layer.push(*key, text, origin());
            }
            _ => layer.push(*key, text, origin()),
        }
    }
    let mut warnings = Vec::new();
    for name in names {
        let read = known.iter().any(|(_, known)| *known == name)
            || OTHERS.contains(&&*name)
            || policy_variable.as_ref() == Some(&name);
        if !name.starts_with(PREFIX) || read {
            continue;
        }
        warnings.push(if name == "EXEAT_CONNECT_TO" {
            format!("`{name}` is not read: connect_to is a flag or a key of the file only")
        } else {
            let ends = known.iter().filter_map(|(_, known)| known.strip_prefix(PREFIX));
            match nearest(&name[PREFIX.len()..], ends) {
                Some(meant) => format!("`{name}` is not read by anything; did you mean `{PREFIX}{meant}`?"),
                None => format!("`{name}` is not read by anything"),
            }
        });
    }
    warnings.sort();
    (layer, warnings)
}
