//! A relay with two parents, as processes: traffic goes through the nearer one, moves when it goes
//! silent without a word, loses nothing, and moves back when it speaks again.

use proto::{Chunk, Name, Order, Start, Tier};
use relay::client::{Client, Said};

use crate::process::{PATIENCE, Process, chunk, client, goes_through, prefix, register};

/// Reads a subscription until it has `count` chunks; each comes once.
async fn all(client: &mut Client, id: u32, count: usize) -> Vec<Name> {
    let mut names = Vec::new();
    while names.len() < count {
        if let Said::Chunks { id: of, chunks } = client.next().await.unwrap()
            && of == id
        {
            names.extend(chunks.iter().map(Chunk::name));
        }
    }
    names
}

#[test]
fn traffic_moves_from_a_silent_parent_and_back_without_loss_or_duplicate() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let origin = Process::start(&at("origin"), &[]);
    let registration = register(&at("origin"));
    let key = origin.origin.clone();
    let below = |name: &str, tier: &str, parents: &str| {
        let more = ["--tier", tier, "--parent", parents, "--origin", &key];
        Process::start(&at(name), &more)
    };
    let cloud = below("cloud", "cloud", &origin.address);
    let near = below("near", "local", &origin.address);
    // The farther one is named first: nearness counts, not the order.
    let parents = format!("{},{}", cloud.address, near.address);
    let own = below("own", "local", &parents);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let story = async {
        let mut writer = client(&own, &registration).await;
        let mut reader = client(&own, &registration).await;
        let mut far = client(&origin, &registration).await;
        let start = (Start::All, Order::OldestFirst);
        let here = reader
            .subscribe(prefix(&registration), start.0, start.1)
            .await
            .unwrap();
        let there = far
            .subscribe(prefix(&registration), Start::All, start.1)
            .await
            .unwrap();
        goes_through(&mut writer, &near).await;
        let say = |number| chunk(&registration, number);
        writer
            .publish_and_wait(&[say(1)], Tier::Origin)
            .await
            .unwrap();

        near.signal("STOP");
        // One is written into the silence, another comes from the other side.
        writer.publish(&[say(2)]).await.unwrap();
        far.publish(&[say(3)]).await.unwrap();
        goes_through(&mut writer, &cloud).await;
        writer
            .publish_and_wait(&[say(4)], Tier::Origin)
            .await
            .unwrap();

        near.signal("CONT");
        goes_through(&mut writer, &near).await;
        writer
            .publish_and_wait(&[say(5)], Tier::Origin)
            .await
            .unwrap();

        for (client, id) in [(&mut reader, here), (&mut far, there)] {
            let mut names = all(client, id, 5).await;
            names.sort();
            let expected: Vec<Name> = (1..=5).map(|number| say(number).name()).collect();
            assert_eq!(names, expected);
        }
    };
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, story)
            .await
            .expect("in time")
    });
}
