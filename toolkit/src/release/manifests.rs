//! The manifests of `images/manifests/` and the charts of `images/charts/` as a release has them: each image of
//! ours by its digest, which no tag can change.

use regex::Regex;

use super::description::{Description, Image};
use sluice_shell::error::{Error, Result};

/// A manifest names an image that the release does not hold.
fn unknown(name: &str) -> Error {
    Error::input(format!("a manifest names the image {name}, which is no image of this release"))
}

/// The image of others that manifests name. Its digest is not ours to know: the name stays as it is.
pub(crate) const VCLUSTER: &str = "ghcr.io/loft-sh/vcluster-oss:0.30.0";

/// The text of a manifest with the images and the Kubernetes version of `release`. Its images may have another
/// registry and the tags of another version.
pub(super) fn pinned(text: &str, release: &Description) -> Result<String> {
    renamed(text, &release.kubernetes, |name| {
        if name == VCLUSTER {
            return Ok(name.to_owned());
        }
        let image = image(name, release)?;
        Ok(format!("{}@{}", image.reference, image.digest))
    })
}

/// The text of a manifest with the Kubernetes version `kubernetes`, and each image named as `image` says: in one line,
/// or in three as values of a chart have it.
pub(crate) fn renamed(text: &str, kubernetes: &str, image: impl Fn(&str) -> Result<String>) -> Result<String> {
    let in_parts = r"(?m)^( *registry: )(\S+)(\n *repository: )(\S+)(\n *tag: )(\S+)$";
    let text = replaced(text, in_parts, |[registry, a, repository, b, tag, c]| {
        let name = image(&format!("{a}/{b}:{}", c.trim_matches('"')))?;
        let parts = name.split_once('/').and_then(|(a, rest)| Some((a, rest.split_once(':')?)));
        let (a, (b, c)) = parts.ok_or_else(|| unknown(&name))?;
        Ok(format!("{registry}{a}{repository}{b}{tag}\"{c}\""))
    })?;
    let in_a_line = r"(?m)^(\s*(?:- )?image: )(\S+)$";
    let text = replaced(&text, in_a_line, |[before, name]| Ok(format!("{before}{}", image(name)?)))?;
    replaced(&text, r"(?m)^(\s*kubernetesVersion: )\S+$", |[before]| Ok(format!("{before}{kubernetes}")))
}

/// The text with something else wherever the pattern fits, made of the groups of the pattern.
fn replaced<const N: usize>(text: &str, pattern: &str, new: impl Fn([&str; N]) -> Result<String>) -> Result<String> {
    let (mut out, mut end) = (String::new(), 0);
    for found in Regex::new(pattern).map_err(anyhow::Error::from)?.captures_iter(text) {
        let whole = found.get_match();
        out.push_str(&text[end..whole.start()]);
        out.push_str(&new(found.extract().1)?);
        end = whole.end();
    }
    Ok(out + &text[end..])
}

/// The text of the file `file` of the chart `name`, which installs the image of that name.
pub(super) fn chart(name: &str, file: &str, text: &str, release: &Description) -> Result<String> {
    let found = release.images.iter().find(|image| parts(&image.reference) == Some((name, "")));
    let image = found.ok_or_else(|| unknown(name))?;
    let (repository, tag) = image.reference.rsplit_once(':').ok_or_else(|| unknown(name))?;
    match file {
        "Chart.yaml" => set(text, "appVersion", tag),
        "values.yaml" => set(&set(text, "repository", repository)?, "digest", &image.digest.to_string()),
        _ => Ok(text.to_owned()),
    }
}

/// The text with another value in the one line that has that key.
fn set(text: &str, key: &str, value: &str) -> Result<String> {
    let line = Regex::new(&format!(r"(?m)^(?<before> *{key}: ).*$")).map_err(anyhow::Error::from)?;
    match line.find_iter(text).count() {
        1 => Ok(line.replace(text, format!("${{before}}{value}")).into_owned()),
        count => Err(Error::input(format!("a chart must have one line with {key}:, not {count}"))),
    }
}

/// The image of the release with the same name and variant: `kube-apiserver` of
/// `ghcr.io/sluice-project/kube-apiserver:v1.37.2-sluice.1`.
fn image<'a>(name: &str, release: &'a Description) -> Result<&'a Image> {
    let wanted = parts(name).ok_or_else(|| unknown(name))?;
    let found = release.images.iter().find(|image| parts(&image.reference).as_ref() == Some(&wanted));
    found.ok_or_else(|| unknown(name))
}

/// The last part of the repository, and what follows the revision in the tag.
fn parts(reference: &str) -> Option<(&str, &str)> {
    let (repository, tag) = reference.split('@').next()?.rsplit_once(':')?;
    let (_, revision) = tag.split_once("sluice.")?;
    let suffix = revision.trim_start_matches(|letter: char| letter.is_ascii_digit());
    Some((repository.rsplit('/').next()?, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Digest;

    fn release(images: Vec<Image>) -> Description {
        Description {
            schema: 1,
            version: "v1.36.3+sluice.2".into(),
            kubernetes: "v1.36.3".into(),
            commit: String::new(),
            source_date_epoch: 0,
            signed: false,
            programs: vec![],
            images,
        }
    }

    fn image(name: &str, content: &[u8]) -> Image {
        Image {
            reference: format!("registry.test:5000/a/{name}"),
            layout: String::new(),
            digest: Digest::of(content),
            manifests: vec![],
        }
    }

    /// By itself a probe lasts a second, and `/readyz` waits up to five for the database.
    #[test]
    fn what_asks_whether_the_shim_is_ready_waits_for_the_answer() {
        let images = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
        let mut probes = 0;
        for entry in walkdir::WalkDir::new(images) {
            let path = entry.unwrap().into_path();
            let text = fs_err::read_to_string(&path).unwrap_or_default();
            for probe in text.split("readinessProbe:\n").skip(1) {
                let probe = probe.split("livenessProbe:").next().unwrap();
                assert!(probe.contains("timeoutSeconds: "), "{}: {probe}", path.display());
                probes += 1;
            }
        }
        assert!(probes >= 9, "{probes}");
    }

    #[test]
    fn a_chart_gets_the_image_of_the_release() {
        let release = release(vec![image("sluice-shim:v1.36.3_sluice.2", b"a")]);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/charts/sluice-shim");
        let of = |file| chart("sluice-shim", file, &fs_err::read_to_string(folder.join(file)).unwrap(), &release);
        assert!(of("Chart.yaml").unwrap().contains("\nappVersion: v1.36.3_sluice.2\n"));
        let values = of("values.yaml").unwrap();
        assert!(values.contains("\n  repository: registry.test:5000/a/sluice-shim\n"), "{values}");
        assert!(values.contains(&format!("\n  digest: {}\n", Digest::of(b"a"))), "{values}");
        assert!(
            chart("kine", "Chart.yaml", "", &release).unwrap_err().to_string().contains("no image of this release")
        );
        assert!(chart("sluice-shim", "Chart.yaml", "", &release).unwrap_err().to_string().contains("not 0"));
    }

    #[test]
    fn images_get_the_digests_of_the_release() {
        let release =
            release(vec![image("shim:v1.36.3_sluice.2", b"a"), image("shim:v1.36.3_sluice.2-rootless", b"b")]);
        let text = "kind: X\nimages: 2\n  - image: ghcr.io/p/shim:v1.37.2-sluice.1\n    image: \
                    ghcr.io/p/shim:v1.37.2-sluice.1-rootless\nkubernetesVersion: v1.37.2\n  image: \
                    ghcr.io/loft-sh/vcluster-oss:0.30.0\n";
        let expected = format!(
            "kind: X\nimages: 2\n  - image: registry.test:5000/a/shim:v1.36.3_sluice.2@{}\n    image: \
             registry.test:5000/a/shim:v1.36.3_sluice.2-rootless@{}\nkubernetesVersion: v1.36.3\n  image: \
             ghcr.io/loft-sh/vcluster-oss:0.30.0\n",
            Digest::of(b"a"),
            Digest::of(b"b")
        );
        assert_eq!(pinned(text, &release).unwrap(), expected);
        let values = "  registry: ghcr.io\n  repository: p/shim\n  tag: v1.37.2_sluice.1\n";
        let expected = format!(
            "  registry: registry.test:5000\n  repository: a/shim\n  tag: \"v1.36.3_sluice.2@{}\"\n",
            Digest::of(b"a")
        );
        assert_eq!(pinned(values, &release).unwrap(), expected);
        for other in ["image: ghcr.io/p/proxy:v1.37.2-sluice.1", "image: ghcr.io/p/shim:latest", "image: shim"] {
            assert!(pinned(other, &release).unwrap_err().to_string().contains("no image of this release"), "{other}");
        }
    }
}
