//! `cargo xtask test containers`: the image and the compose file's topology, built and run with podman, and the chart's network policies
//! with network namespaces. Written with pytest, in `deploy/containers`. No part of CI's tests: it needs root, and compiles everything once more, inside the image.

use anyhow::Result;

use crate::deploy;
use crate::prepare::system;
use crate::step::{Outcome, command_step, run_quietly, step};
use crate::workspace::Workspace;

/// Builds the image, starts the topology, and breaks it.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step("root", "sudo -E env \"PATH=$PATH\" cargo xtask test containers", || {
        let id = run_quietly(workspace.program("id").arg("-u"))?;
        anyhow::ensure!(id.trim() == "0", "networks and limits of containers are only root's to make");
        Ok(Outcome::Done)
    })?;
    step("podman", system::REMEDY, || system::install_for_containers(workspace))?;
    deploy::install_checkers(workspace)?;
    // The load generator, and the gateway for the network policies, which need no container.
    let programs = ["build", "--quiet", "--package", "signalbox-loadtest", "--package", "signalbox-gateway"];
    command_step("programs", "correct what does not compile", &mut workspace.cargo(&programs))?;
    let mut pytest = deploy::python(workspace);
    pytest.args(["-B", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "deploy/containers"]);
    command_step("containers", "see what the container that it names logged", &mut pytest)
}
