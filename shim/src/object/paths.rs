//! Paths of fields, merged into a tree, so that one pass over an object finds all of them.

/// The most steps that a path may have. Readers go down one call a step.
pub(super) const MAX_STEPS: usize = 16;

/// The most paths that a tree holds: readers note in one word which names of an object they have met.
pub(super) const MAX_PATHS: usize = 64;

/// What an object holds in one place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Scalar<'a> {
    /// Nothing: the last name of the path is missing, or one before it.
    #[default]
    Absent,
    /// A null, there or at an earlier step.
    Null,
    /// A string.
    Text(std::borrow::Cow<'a, str>),
    /// An integer of 64 bits.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
    /// Anything else, and whatever decoders may disagree about.
    Other,
}

/// One step of the paths: what is wanted of the value there.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// Where the value itself goes, if a path ends here.
    slot: Option<usize>,
    /// The names that are looked for in it.
    children: Vec<(Box<str>, Node)>,
}

impl Node {
    /// Adds a path, `spec.color`, whose value goes to that slot. False if such a path can't be read; then nothing is
    /// added.
    ///
    /// The names hold only characters that stand for themselves in a JSON path (client-go: util/jsonpath/parser.go).
    pub(super) fn add(&mut self, path: &str, slot: usize) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let steps: Vec<&str> = path.split('.').collect();
        let legible = steps.iter().all(|step| !step.is_empty() && step.bytes().all(plain));
        if !legible || steps.len() > MAX_STEPS || slot >= MAX_PATHS {
            return false;
        }
        let mut node = self;
        for step in steps {
            let at = match node.children.iter().position(|(name, _)| **name == *step) {
                Some(at) => at,
                None => {
                    node.children.push((step.into(), Self::default()));
                    node.children.len() - 1
                }
            };
            node = &mut node.children[at].1;
        }
        // One value goes to one place.
        let free = node.slot.is_none();
        node.slot.get_or_insert(slot);
        free
    }

    /// Whether nothing is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.slot.is_none() && self.children.is_empty()
    }

    /// What is wanted under that name, with its number among the names.
    pub(super) fn child(&self, name: &str) -> Option<(usize, &Self)> {
        let at = self.children.iter().position(|(candidate, _)| **candidate == *name)?;
        Some((at, &self.children[at].1))
    }

    /// Notes that the value here is an object. What is under its names is noted by itself.
    pub(super) fn object(&self, found: &mut [Scalar<'_>]) {
        if let Some(slot) = self.slot {
            found[slot] = Scalar::Other;
        }
    }

    /// Notes the value here, which is no object.
    pub(super) fn scalar<'a>(&self, found: &mut [Scalar<'a>], value: Scalar<'a>) {
        let below = if value == Scalar::Null { Scalar::Null } else { Scalar::Other };
        for (_, child) in &self.children {
            child.all(found, &below);
        }
        if let Some(slot) = self.slot {
            found[slot] = value;
        }
    }

    /// Notes that nothing can be said of this value, nor of what is in it.
    pub(super) fn unclear(&self, found: &mut [Scalar<'_>]) {
        self.all(found, &Scalar::Other);
    }

    fn all<'a>(&self, found: &mut [Scalar<'a>], value: &Scalar<'a>) {
        if let Some(slot) = self.slot {
            found[slot] = value.clone();
        }
        for (_, child) in &self.children {
            child.all(found, value);
        }
    }
}
