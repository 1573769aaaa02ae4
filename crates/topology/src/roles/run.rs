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
        if let Some(image) = self.image.as_ref().filter(|image| image.value.trim().is_empty()) {
            findings.invalid(image.place, "the name of an image cannot be empty");
        }
        if let Some(message) = wrong {
            findings.invalid(self.run.place, message);
            return None;
        }
        path_is_good.then_some(Program::Run(words))
    }
}
