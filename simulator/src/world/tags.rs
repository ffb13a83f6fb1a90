//! Tags: a small tree, with members of several kinds.

use super::draw::Draw;
use super::parts::{ExternalIds, Named, TagRef};
use super::vocabulary::TAGS;

/// Tags without a parent.
const ROOTS: usize = 3;
const FIRST_TAG: u64 = 3_901;

/// A tag and its members. `None` members are left out by the API; empty ones are an empty list.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    pub(crate) tag: Named,
    pub(crate) parent: Option<Named>,
    pub(crate) external_ids: Option<ExternalIds>,
    pub(crate) addresses: Option<Vec<Named>>,
    pub(crate) assets: Option<Vec<Named>>,
    pub(crate) drivers: Option<Vec<Named>>,
    pub(crate) machines: Option<Vec<Named>>,
    pub(crate) sensors: Option<Vec<Named>>,
    pub(crate) vehicles: Option<Vec<Named>>,
}

impl Tag {
    /// The tree of tags, still without members. The last tag never gets any.
    pub(crate) fn tree(seed: u64, vehicles: u32) -> Vec<Self> {
        let count = 8 + vehicles as usize / 4;
        let mut tags: Vec<Self> = Vec::with_capacity(count);
        for index in 0..count {
            let mut draw = Draw::new(seed, "tag", &[index as u64]);
            let name = match (TAGS.get(index), TAGS.get(index % TAGS.len())) {
                (Some(name), _) => (*name).to_owned(),
                (None, name) => format!(
                    "{} {}",
                    name.copied().unwrap_or_default(),
                    index / TAGS.len() + 1
                ),
            };
            let parent = if index < ROOTS {
                None
            } else {
                draw.pick(&tags[..ROOTS]).map(|parent| parent.tag.clone())
            };
            let mut ids = ExternalIds::new();
            if draw.chance(0.5) {
                ids.insert("samsara.name".to_owned(), name.to_lowercase());
            }
            if draw.chance(0.4) {
                ids.insert("crmId".to_owned(), format!("t-{index}"));
            }
            let external_ids = (index % 4 != 1).then_some(ids);
            // The lists of an empty tag that are present differ from tag to tag.
            let mut list = || draw.chance(0.5).then(Vec::new);
            tags.push(Self {
                tag: Named::new(FIRST_TAG + index as u64, &name),
                parent,
                external_ids,
                addresses: list(),
                assets: list(),
                drivers: list(),
                machines: list(),
                sensors: list(),
                vehicles: list(),
            });
        }
        tags
    }

    /// How a member names this tag.
    pub(crate) fn reference(&self) -> TagRef {
        TagRef {
            tag: self.tag.clone(),
            parent: self.parent.as_ref().map(|parent| parent.id.clone()),
        }
    }

    /// Up to three different tags of a tree, never its last one.
    pub(crate) fn some_of(tags: &[Self], draw: &mut Draw) -> Vec<TagRef> {
        let open = tags.len().saturating_sub(1);
        let mut chosen: Vec<TagRef> = Vec::new();
        for _ in 0..draw.below(4) {
            let tag = draw.pick(&tags[..open]).map(Self::reference);
            chosen.extend(tag.filter(|tag| !chosen.contains(tag)));
        }
        chosen
    }
}

/// Adds a member to those tags that it carries.
pub(crate) fn join(
    tags: &mut [Tag],
    carried: &[TagRef],
    member: &Named,
    list: impl Fn(&mut Tag) -> &mut Option<Vec<Named>>,
) {
    for tag in tags
        .iter_mut()
        .filter(|tag| carried.iter().any(|carried| carried.tag.id == tag.tag.id))
    {
        list(tag).get_or_insert_default().push(member.clone());
    }
}
