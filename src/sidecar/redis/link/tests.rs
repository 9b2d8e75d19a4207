use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A Redis that has nothing against any command, and says so when it is let.
struct Agreeing {
    url_file: PathBuf,
    connections: Arc<AtomicUsize>,
    is_let: watch::Sender<bool>,
}

impl Agreeing {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url_file =
            std::env::temp_dir().join(format!("agreeing-{}-{}", std::process::id(), address.port()));
        std::fs::write(&url_file, format!("redis://{address}/0")).unwrap();
        let (connections, is_let) = (Arc::<AtomicUsize>::default(), watch::Sender::new(true));
        let (count, letting) = (connections.clone(), is_let.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(agree(stream, letting.subscribe()));
            }
        });
        Self { url_file, connections, is_let }
    }
}

async fn agree(stream: TcpStream, mut is_let: watch::Receiver<bool>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut scripts = scripts::all().into_iter().peekable();
    loop {
        let mut name = Vec::new();
        for _ in 0..number(&mut stream).await? {
            // With the end of its line.
            let mut argument = vec![0; number(&mut stream).await? + 2];
            stream.read_exact(&mut argument).await.ok()?;
            if name.is_empty() {
                name = argument;
            }
        }
        // They are loaded one after the other.
        let script = scripts.next_if(|_| name == b"SCRIPT\r\n");
        let answer = script.map_or("OK", |script| script.get_hash());
        is_let.wait_for(|is_let| *is_let).await.ok()?;
        stream.write_all(format!("+{answer}\r\n").as_bytes()).await.ok()?;
    }
}

/// How many arguments or bytes follow.
async fn number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_heard_late_of_a_lost_connection_does_not_keep_the_next_from_use() {
    let redis = Agreeing::start().await;
    let link = Arc::new(Link::to(&redis.url_file, CONNECT, Arc::default()));
    let keeping = tokio::spawn({
        let link = link.clone();
        async move { link.keep().await }
    });
    until("it is connected", || link.connection().is_some()).await;
    // Commands are under way as the connection is lost, and fail while the next is made.
    let passes: Vec<_> =
        (0..BREAKER.consecutive).map(|_| link.breaker.lock().pass_if_closed().unwrap()).collect();
    redis.is_let.send_replace(false);
    link.lose(1);
    until("the next is made", || redis.connections.load(Ordering::SeqCst) == 2).await;
    for pass in passes {
        link.note(pass, Outcome::Failure);
    }
    assert_eq!(link.state(), State::Open);
    redis.is_let.send_replace(true);
    until("it is used again", || link.connection().is_some()).await;
    assert_eq!(link.state(), State::Closed);
    keeping.abort();
    std::fs::remove_file(&redis.url_file).unwrap();
}

#[tokio::test]
async fn a_question_for_which_no_time_is_left_says_nothing_of_redis() {
    let redis = Agreeing::start().await;
    let figures = Arc::<Figures>::default();
    let link = Arc::new(Link::to(&redis.url_file, CONNECT, figures.clone()));
    let keeping = tokio::spawn({
        let link = link.clone();
        async move { link.keep().await }
    });
    until("it is connected", || link.connection().is_some()).await;
    let connection = link.connection().unwrap();
    for _ in 0..BREAKER.consecutive {
        let reply = std::future::pending::<RedisResult<()>>();
        let asked = link.within(Duration::ZERO, &connection, reply).await;
        assert!(matches!(asked, Err(Trouble::Late)), "{asked:?}");
    }
    assert_eq!((Figures::of(&figures.timeouts), link.state()), (0, State::Closed));
    keeping.abort();
    std::fs::remove_file(&redis.url_file).unwrap();
}
