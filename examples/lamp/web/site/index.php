<?php
// A page that is made of the rows of a table, and adds one: who asked, and when.
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
try {
    $database = new mysqli(getenv("DB_HOST") ?: "db", "lamp", getenv("DB_PASSWORD"), "lamp");
    $visit = $database->prepare("INSERT INTO visits (visitor) VALUES (?)");
    $visit->execute([$_SERVER["REMOTE_ADDR"]]);
    $greetings = $database->query("SELECT words FROM greetings ORDER BY id")->fetch_all(MYSQLI_ASSOC);
    [$visits] = $database->query("SELECT COUNT(*) FROM visits")->fetch_row();
} catch (mysqli_sql_exception $error) {
    http_response_code(503);
    error_log($error->getMessage());
    exit("The database does not answer.\n");
}
?>
<!DOCTYPE html>
<title>LAMP</title>
<h1>From the database</h1>
<ul>
<?php foreach ($greetings as $greeting): ?>
<li><?= htmlspecialchars($greeting["words"]) ?></li>
<?php endforeach; ?>
</ul>
<p>Visit <?= $visits ?>, PHP <?= PHP_MAJOR_VERSION ?>, <?= htmlspecialchars($database->server_info) ?></p>
