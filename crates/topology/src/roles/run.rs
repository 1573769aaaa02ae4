//! `run: [words]`: any other program.

use serde::{Deserialize, Serialize};

use super::check_path;
use crate::findings::Findings;
use crate::plan::Program;
use crate::source::Place;
use crate::spec::Scalar;
use crate::yaml::At;

/// As much as any program takes; the kernel's own bound is higher.
const MAX_BYTES: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    run: At<Vec<Scalar>>,
    /// For engines that run containers; namespaces use the machine's own programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) out: Option<At<String>>,
}

/// What is wrong with the name of an image, as the OCI distribution specification and Docker have them:
/// `[host[:port]/]path[:tag][@digest]`.
fn image_fault(name: &str) -> Option<String> {
    const LONGEST: usize = 512;
    if name.trim().is_empty() {
        return Some("the name of an image cannot be empty".to_owned());
    }
    let is_odd = |c: char| !(c.is_ascii_alphanumeric() || "._-/:@".contains(c));
    if let Some(odd) = name.chars().find(|c| is_odd(*c)) {
        return Some(format!("{odd:?} cannot be in the name of an image"));
    }
    let parts = || name.split(['/', ':', '@']);
    if parts().any(|part| part.is_empty() || part.starts_with(['.', '-'])) || name.len() > LONGEST {
        return Some(format!("`{name}` is no name of an image, such as `nginx:alpine` or `ghcr.io/owner/name:tag`"));
    }
    None
}

impl Run {
    pub(super) fn resolve(&self, _node: Place, findings: &mut Findings<'_>) -> Option<Program> {
        let words: Vec<String> = self.run.value.iter().map(|word| word.0.clone()).collect();
        let wrong = if words.first().is_none_or(String::is_empty) {
            Some("there is no program to run".to_owned())
        } else if words.iter().any(|word| word.contains('\0')) {
            Some("a word of a command line cannot contain NUL".to_owned())
        } else if words.iter().map(String::len).sum::<usize>() > MAX_BYTES {
            Some(format!("the command line has more than {MAX_BYTES} bytes"))
        } else {
            None
        };
        let path_is_good = self.out.as_ref().is_none_or(|out| check_path(out, findings));
        let image_is_named = self.image.as_ref().is_none_or(|image| match image_fault(&image.value) {
            Some(fault) => {
                findings.invalid(image.place, fault);
                false
            }
            None => true,
        });
        if let Some(message) = wrong {
            findings.invalid(self.run.place, message);
            return None;
        }
        let image = self.image.as_ref().map(|image| image.value.clone());
        (path_is_good && image_is_named).then_some(Program::Run { words, image })
    }
}
