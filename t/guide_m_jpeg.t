# The camera of docs/guide/m-jpeg.md: an <img> shows each picture as soon as it is published.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use MIME::Base64 qw(decode_base64);
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::Page;

my $page = Test::Nginx::PushStream::Page->new('docs/guide/m-jpeg.md');
my $t = $page->nginx('m-jpeg.conf', root => 'docs/examples/m-jpeg')->run;
$page->follow($t);

my $picture = Test::Nginx::PushStream::Page::slurp('docs/examples/m-jpeg/door.jpg');
my $viewer = $t->subscribe('/cameras/door');
is($viewer->header('Content-Type'), 'multipart/x-mixed-replace; boundary=picture-4b1d9e5a', 'the type of the answer');
my $head = "--picture-4b1d9e5a\r\nContent-Type: image/jpeg\r\n\r\n";
my $part = "$picture\r\n$head";
is($viewer->read_until(qr/\A\Q$head\E.*\Q$head\E/s), $head . $part, 'the last picture, byte by byte');

# The camera in small: a command that writes a picture, twice, and then fails.
$t->write_file('twice', 'x');
my $url = 'http://127.0.0.1:' . $t->port . '/pub?id=door';
my $shoot = "cd '@{[$t->dir]}' && echo x >> twice && [ \$(wc -l < twice) -le 2 ] && cat '@{[$page->root]}/docs/examples/m-jpeg/door.jpg'";
my $camera = $page->root . '/docs/examples/m-jpeg/camera.sh';
isnt(system('sh', '-c', 'PAUSE=0 "$@" 2>/dev/null', 'sh', $camera, $url, 'sh', '-c', $shoot), 0, 'camera.sh ends with the camera');
is($viewer->read_until(qr/(?:.*?\Q$head\E){2}/s), $part x 2, 'camera.sh has published what the camera wrote');
$viewer->close;
is($t->get('/cameras/none')->status, 403, 'there is no camera that has not published');

SKIP: {
    skip 'chromedriver is not installed', 3 unless Test::Nginx::PushStream::Browser->available;
    $t->wait_subscribers('/of-the-test', 0);
    my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
    my %pictures;
    for my $color (qw(red lime blue)) {
        my $data = $browser->run("const c = document.createElement('canvas'); c.width = c.height = 32; const x = c.getContext('2d');"
            . "x.fillStyle = '$color'; x.fillRect(0, 0, 32, 32); return c.toDataURL('image/jpeg')");
        $pictures{$color} = decode_base64($data =~ s/.*,//r);
    }
    $t->publish('/pub?id=door', $pictures{red});
    $browser->open('http://127.0.0.1:' . $t->port . '/door.html');
    my $sees = sub {
        my ($channel) = @_;
        my $pixel;
        $t->wait_for(sub {
            $pixel = $browser->run('const x = document.createElement("canvas").getContext("2d"); x.drawImage(document.querySelector("img"), 0, 0);'
                . 'return [...x.getImageData(5, 5, 1, 1).data].slice(0, 3)');
            return $pixel && $pixel->[$channel] > 200 && 2 == grep { $_ < 60 } @$pixel;
        }, 'the picture');
        return $pixel->[$channel] > 200;
    };
    ok($sees->(0), 'the page begins with the last picture');
    $t->publish('/pub?id=door', $pictures{lime});
    ok($sees->(1), 'it shows the next one, although none follows');
    $t->publish('/pub?id=door', $pictures{blue});
    ok($sees->(2), 'and the one after it');
    $browser->quit;
}
$t->done;
