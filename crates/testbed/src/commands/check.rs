//! `testbed check`: whether topology files are right, without running them.

use conductor::files::SharedFiles;

use crate::cli::CheckArguments;
use crate::loading::{self, Kernel};
use crate::status::Status;

pub(crate) fn check(arguments: &CheckArguments) -> anyhow::Result<Status> {
    let mut status = Status::OK;
    let drawn = loading::draw_seed()?;
    for file in &arguments.files {
        let sweep = match loading::sweep(file, &arguments.variation, drawn, false)? {
            Ok(sweep) => sweep.map_or(String::new(), |sweep| format!(", {} points", sweep.points.len())),
            Err(wrong) => {
                status = status.or_graver(wrong);
                continue;
            }
        };
        match loading::load(file, &arguments.variation, drawn, false, Kernel::Any)? {
            Ok(plan) => match SharedFiles::check(&plan) {
                Ok(()) => report::say(&format!(
                    "{}: ok ({}: {} nodes, {} events, {} expectations{sweep})\n",
                    file.display(),
                    plan.name(),
                    plan.nodes().len(),
                    plan.events().len(),
                    plan.expectations().len(),
                )),
                Err(error) => {
                    eprintln!("error: {}: {:#}", file.display(), anyhow::Error::from(error));
                    status = status.or_graver(Status::BadInput);
                }
            },
            Err(wrong) => status = status.or_graver(wrong),
        }
    }
    Ok(status)
}
