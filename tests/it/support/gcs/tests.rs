//! The double as `object_store` and a bare HTTP client see it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{TryStreamExt, future::join_all};
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, StaticCredentialProvider, UpdateVersion, WriteMultipart,
    gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder},
    path::Path,
};
use reqwest::{Client, StatusCode};

use super::{GcsDouble, GcsOptions};
use crate::support::faults::{Action, Fault};

const BUCKET: &str = "raw-bucket.test";

fn client(double: &GcsDouble, bucket: &str) -> GoogleCloudStorage {
    let credential = GcpCredential {
        bearer: String::new(),
    };
    GoogleCloudStorageBuilder::new()
        .with_base_url(double.url())
        .with_bucket_name(bucket)
        .with_credentials(Arc::new(StaticCredentialProvider::new(credential)))
        .build()
        .unwrap()
}

fn create() -> PutOptions {
    PutMode::Create.into()
}

fn update(version: Option<String>) -> PutOptions {
    let version = UpdateVersion {
        e_tag: None,
        version,
    };
    PutMode::Update(version).into()
}

#[tokio::test]
async fn objects_round_trip_in_ranges() {
    let double = GcsDouble::start(&[BUCKET]);
    let store = client(&double, BUCKET);
    let path = Path::from("raw/vehicles/date=2024-01-01/run-00001.parquet");

    let put = store.put(&path, "0123456789".into()).await.unwrap();
    let head = store.head(&path).await.unwrap();
    assert_eq!(head.size, 10);
    assert_eq!((&head.version, &head.e_tag), (&put.version, &put.e_tag));
    let generation = double.objects(BUCKET)[0].generation;
    assert_eq!(put.version, Some(generation.to_string()));

    let whole = store.get(&path).await.unwrap();
    assert_eq!(whole.meta, head);
    assert_eq!(whole.bytes().await.unwrap(), "0123456789");
    let range = |range: GetRange| {
        let options = GetOptions::new().with_range(Some(range));
        store.get_opts(&path, options)
    };
    for (asked, expected) in [
        (GetRange::Bounded(2..5), "234"),
        (GetRange::Bounded(8..50), "89"),
        (GetRange::Offset(7), "789"),
        (GetRange::Suffix(4), "6789"),
        (GetRange::Suffix(40), "0123456789"),
    ] {
        let part = range(asked).await.unwrap();
        assert_eq!(part.bytes().await.unwrap(), expected);
    }
    assert!(range(GetRange::Offset(10)).await.is_err());
    let parts = store.get_ranges(&path, &[0..1, 9..10]).await.unwrap();
    assert_eq!(parts, ["0", "9"]);

    let first = &double.requests()[0];
    assert_eq!((first.method.as_str(), first.status), ("PUT", Some(200)));
    assert_eq!(
        (first.bucket.as_str(), first.key.as_str()),
        (BUCKET, path.as_ref())
    );
    let last = double.requests().pop().unwrap();
    assert_eq!(last.method, "GET");
}

#[tokio::test]
async fn headers_of_an_object_come_back() {
    let double = GcsDouble::start(&[BUCKET]);
    let store = client(&double, BUCKET);
    let path = Path::from("state.json");
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, "application/json".into());
    attributes.insert(Attribute::Metadata("writer".into()), "run-7".into());
    let options = PutOptions::from(attributes.clone());
    store.put_opts(&path, "{}".into(), options).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().attributes, attributes);
}

#[tokio::test]
async fn reads_honour_etags_and_generations() {
    let double = GcsDouble::start(&[BUCKET]);
    let store = client(&double, BUCKET);
    let path = Path::from("state.json");
    let old = store.put(&path, "old".into()).await.unwrap();
    let new = store.put(&path, "new".into()).await.unwrap();

    let get = |options| store.get_opts(&path, options);
    let options = || GetOptions::new();
    assert!(
        get(options().with_if_match(new.e_tag.clone()))
            .await
            .is_ok()
    );
    let stale = get(options().with_if_match(old.e_tag.clone())).await;
    assert!(
        matches!(stale, Err(Error::Precondition { .. })),
        "{stale:?}"
    );
    let unchanged = get(options().with_if_none_match(new.e_tag)).await;
    assert!(
        matches!(unchanged, Err(Error::NotModified { .. })),
        "{unchanged:?}"
    );
    assert!(get(options().with_if_none_match(old.e_tag)).await.is_ok());
    assert!(get(options().with_version(new.version)).await.is_ok());
    let gone = get(options().with_version(old.version)).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn listings_are_sorted_paged_and_grouped() {
    let options = GcsOptions {
        page_size: 2,
        ..GcsOptions::default()
    };
    let double = GcsDouble::start_with(&[BUCKET, "other"], options);
    let keys = ["a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "a/d-6", "b/7"];
    for key in keys.iter().rev() {
        double.put(BUCKET, key, *key);
    }
    let store = client(&double, BUCKET);
    let names = |objects: Vec<object_store::ObjectMeta>| -> Vec<String> {
        objects.into_iter().map(|o| o.location.into()).collect()
    };

    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(all[0].size, 3);
    assert_eq!(names(all), keys);
    let pages = double.requests().len();
    assert_eq!(pages, 4, "seven objects, two a page");

    let prefix = Path::from("a");
    let under = store.list(Some(&prefix)).try_collect().await.unwrap();
    assert_eq!(names(under), keys[..6]);
    let offset = Path::from("a/b/3");
    let later = store.list_with_offset(Some(&prefix), &offset);
    assert_eq!(names(later.try_collect().await.unwrap()), keys[3..6]);

    let grouped = store.list_with_delimiter(Some(&prefix)).await.unwrap();
    assert_eq!(names(grouped.objects), ["a/1", "a/2", "a/d-6"]);
    assert_eq!(
        grouped.common_prefixes,
        [Path::from("a/b"), Path::from("a/c")]
    );

    let nothing: Vec<_> = client(&double, "other")
        .list(None)
        .try_collect()
        .await
        .unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn generations_only_grow() {
    let double = GcsDouble::start(&[BUCKET]);
    let store = client(&double, BUCKET);
    let path = Path::from("a/one.txt");
    let before = double.put(BUCKET, "a/one.txt", "1");
    store.delete(&path).await.unwrap();
    assert_eq!(double.get(BUCKET, "a/one.txt"), None);
    let missing = store.get(&path).await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    let missing = store.delete(&path).await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    assert!(double.put(BUCKET, "a/one.txt", "1") > before);
    assert!(double.delete(BUCKET, "a/one.txt"));
    assert!(!double.delete(BUCKET, "a/one.txt"));
}

#[tokio::test]
async fn uploads_in_parts_appear_when_completed() {
    const MIB: usize = 1024 * 1024;
    let double = GcsDouble::start(&[BUCKET]);
    let store = client(&double, BUCKET);
    let data: Bytes = (0..12 * MIB).map(|i| (i / 1000) as u8).collect();
    let path = Path::from("raw/big.parquet");

    let upload = store.put_multipart(&path).await.unwrap();
    let mut writer = WriteMultipart::new_with_chunk_size(upload, 5 * MIB);
    writer.put(data.clone());
    writer.wait_for_capacity(0).await.unwrap();
    assert!(double.objects(BUCKET).is_empty());
    let put = writer.finish().await.unwrap();
    assert_eq!(double.get(BUCKET, "raw/big.parquet"), Some(data));
    let head = store.head(&path).await.unwrap();
    assert_eq!(put.version, head.version);

    let mut upload = store.put_multipart(&path).await.unwrap();
    for _ in 0..2 {
        upload
            .put_part(PutPayload::from_static(b"small"))
            .await
            .unwrap();
    }
    assert!(upload.complete().await.is_err());
    upload.abort().await.unwrap();
    assert_eq!(store.head(&path).await.unwrap(), head);
}

#[tokio::test]
async fn of_many_conditional_writers_one_wins() {
    let double = GcsDouble::start(&[BUCKET]);
    let store = client(&double, BUCKET);
    let path = Path::from("lock.json");
    let race = async |options: PutOptions| {
        let write = |n: i32| store.put_opts(&path, n.to_string().into(), options.clone());
        let (won, lost): (Vec<_>, Vec<_>) = join_all((0..20).map(write))
            .await
            .into_iter()
            .partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        let won = won.into_iter().flatten().next().unwrap();
        (won, lost.into_iter().filter_map(Result::err).collect())
    };

    let (first, lost): (_, Vec<Error>) = race(create()).await;
    assert!(
        lost.iter()
            .all(|e| matches!(e, Error::AlreadyExists { .. })),
        "{lost:?}"
    );
    let (second, lost): (_, Vec<Error>) = race(update(first.version.clone())).await;
    assert!(
        lost.iter().all(|e| matches!(e, Error::Precondition { .. })),
        "{lost:?}"
    );
    assert_ne!(first.version, second.version);
    assert_eq!(store.head(&path).await.unwrap().version, second.version);
    let refused = double
        .requests()
        .iter()
        .filter(|r| r.status == Some(412))
        .count();
    assert_eq!(refused, 38);
}

#[tokio::test]
async fn refused_requests_are_retried() {
    let double = GcsDouble::start(&[BUCKET]);
    double.fault(Fault::on("PUT", "raw/", Action::Status(503)).first(2));
    let html = Action::Reply {
        status: 502,
        content_type: "text/html",
        body: "<html>Bad Gateway</html>".to_owned(),
    };
    double.fault(Fault::on("GET", "raw/", html).nth(1));
    double.fault(Fault::on("GET", "raw/", Action::DropBefore).nth(2));
    double.fault(Fault::on(
        "GET",
        "",
        Action::Delay(Duration::from_millis(1)),
    ));
    let store = client(&double, BUCKET);
    let path = Path::from("raw/a");
    store.put(&path, "1".into()).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "1");
    let statuses: Vec<_> = double.requests().iter().map(|r| r.status).collect();
    let expected = [Some(503), Some(503), Some(200), Some(502), None, Some(200)];
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn a_lost_create_answer_is_a_conflict() {
    let double = GcsDouble::start(&[BUCKET]);
    let store = client(&double, BUCKET);
    let path = Path::from("lock.json");
    let attempt = || store.put_opts(&path, "mine".into(), create());

    double.fault(Fault::on("PUT", "lock", Action::DropAfter).nth(1));
    let lost = attempt().await;
    assert!(lost.is_err());
    assert_eq!(double.requests()[0].status, None);
    assert_eq!(double.get(BUCKET, "lock.json").unwrap(), "mine");

    double.clear_faults();
    double.clear_requests();
    let conflict = attempt().await;
    assert!(
        matches!(conflict, Err(Error::AlreadyExists { .. })),
        "{conflict:?}"
    );
    assert_eq!(double.requests().len(), 1);
}

#[tokio::test]
async fn a_second_write_within_the_interval_is_refused() {
    let options = GcsOptions {
        write_interval: Duration::from_secs(1),
        ..GcsOptions::default()
    };
    let double = GcsDouble::start_with(&[BUCKET], options);
    let http = Client::new();
    let put = async |key: &str| {
        let url = format!("{}/{BUCKET}/{key}", double.url());
        let answer = http.put(url).body("1").send().await.unwrap();
        answer.status()
    };
    assert_eq!(put("a").await, StatusCode::OK);
    assert_eq!(put("a").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(put("b").await, StatusCode::OK);
    // `object_store` waits and tries again until the second is over.
    let store = client(&double, BUCKET);
    store.put(&Path::from("a"), "2".into()).await.unwrap();
    assert_eq!(double.get(BUCKET, "a").unwrap(), "2");
}

#[tokio::test]
async fn plain_requests_as_other_clients_send_them() {
    let double = GcsDouble::start(&[BUCKET, "copies"]);
    double.put(BUCKET, "a+b/c d.txt", "text");
    let http = Client::new();
    let url = |tail: &str| format!("{}{tail}", double.url());
    let get = async |tail: &str| {
        let answer = http.get(url(tail)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };

    let list = "/raw-bucket.test/?encoding-type=url&list-type=2&prefix=a%2Bb%2F";
    let (status, xml) = get(list).await;
    assert_eq!(status, 200);
    assert!(xml.contains("<Key>a%2Bb/c%20d.txt</Key>"), "{xml}");
    let text = get("/raw-bucket.test/a+b/c%20d.txt").await;
    assert_eq!(text, (200, "text".to_owned()));
    let (status, xml) = get("/nowhere/a").await;
    assert_eq!(status, 404);
    assert!(xml.contains("<Code>NoSuchBucket</Code>"), "{xml}");

    let head = http.head(url("/raw-bucket.test/a+b/c%20d.txt"));
    let answer = head.send().await.unwrap();
    assert_eq!(answer.headers()["content-length"], "4");

    let copy = http
        .put(url("/copies/d"))
        .header("x-goog-copy-source", "raw-bucket.test/a%2Bb/c%20d.txt");
    assert_eq!(copy.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(double.get("copies", "d").unwrap(), "text");
    let post = http.post(url("/copies/d")).send().await.unwrap();
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
}
