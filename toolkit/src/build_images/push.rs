//! `build-images --push`: where the images go, and their names there.

use super::report::{Line, Report};
use crate::{
    images::{Definition, Reference},
    registry::{Access, Registry},
};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Result};

/// Flags of a push.
#[derive(clap::Args, Default)]
pub(super) struct Flags {
    /// Push the images to REGISTRY/PATH/<image> too, with the credentials that `docker login` has kept
    #[arg(long, value_name = "REGISTRY/PATH")]
    pub(super) push: Option<String>,
    /// Push under this tag instead of the version; can be given several times
    #[arg(long = "tag", value_name = "TAG", requires = "push")]
    pub(super) tags: Vec<String>,
    #[command(flatten)]
    pub(super) access: Access,
}

/// A registry that answers, and the names that the images get there.
pub(super) struct Destination {
    base: String,
    tags: Vec<String>,
    registry: Registry,
}

impl Flags {
    /// Finds before the programs are built, which takes minutes, what would stop the push after it.
    pub(super) fn open(&self, shell: &Context, chosen: &[&Definition]) -> Result<Option<Destination>> {
        let Some(base) = &self.push else {
            self.access.only_with("--push")?;
            return Ok(None);
        };
        let mut repositories = vec![];
        for image in chosen {
            let repository = format!("{base}/{}", image.name);
            for suffix in image.variants.iter().map(|variant| &variant.suffix) {
                for tag in &self.tags {
                    Reference::new(&repository, &format!("{tag}{suffix}"))?;
                }
            }
            repositories.push(Reference::new(&repository, "latest")?);
        }
        let registry = ask(shell, base, &self.access, &repositories)?;
        Ok(Some(Destination::new(base, &self.tags, registry)))
    }
}

/// The registry of `base`, if it answers and accepts the login for each of the repositories.
pub(crate) fn ask(shell: &Context, base: &str, access: &Access, repositories: &[Reference]) -> Result<Registry> {
    let name = base.split_once('/').map_or(base, |(registry, _)| registry);
    // A registry that does not answer is asked for some seconds.
    let progress = shell.out.spinner(format!("ask {name}"));
    let registry = Registry::open(name, access)?;
    for reference in repositories {
        registry.check(reference).attempting(|| format!("cannot push to {}", reference.repository()))?;
    }
    progress.done("the login is accepted");
    Ok(registry)
}

impl Destination {
    /// Images go to `base/<image>`, under `tags` or else under their own.
    pub(super) fn new(base: &str, tags: &[String], registry: Registry) -> Self {
        Self { base: base.to_owned(), tags: tags.to_owned(), registry }
    }

    /// Pushes all that the report names, and reports it there.
    pub(super) fn push(&mut self, shell: &Context, report: &mut Report) -> Result<()> {
        let progress = shell.out.bar("push", report.images.len() as u64);
        for line in &mut report.images {
            let references = self.references(line)?;
            let names = references.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (digest, transfer) = self
                .registry
                .push(&line.layout, line.reference.tag(), &references, |what| progress.now(what))
                .attempting(|| format!("cannot push {names}"))?;
            line.pushed = references.iter().map(|reference| format!("{reference}@{digest}")).collect();
            line.transfer = Some(transfer);
            progress.advance(1);
        }
        progress.done(report.transferred());
        Ok(())
    }

    fn references(&self, line: &Line) -> Result<Vec<Reference>> {
        let repository = format!("{}/{}", self.base, line.name);
        let tagged = |tag: &String| Reference::new(&repository, &format!("{tag}{}", line.suffix));
        if self.tags.is_empty() {
            return Ok(vec![Reference::new(&repository, line.reference.tag())?]);
        }
        Ok(self.tags.iter().map(tagged).collect::<Result<_, _>>()?)
    }
}
