//! `testbed schema`: the JSON Schema of topology files, for editors.

use crate::status::Status;

pub(crate) fn schema() -> anyhow::Result<Status> {
    report::say(&format!("{:#}\n", topology::schema()));
    Ok(Status::OK)
}
