/*
 * Run by hand, with Java 11 or newer: both HTTP clients of Java's own library against a running server.
 *
 *     azureml-classic-server --data-dir /tmp/data --port 8080 &
 *     java tests/old_clients/JavaCheck.java ApiLocation PrimaryKey body.json
 *
 * The arguments are two members of a scoring endpoint and a file with the body of a call. HttpClient asks to go on in
 * HTTP/2 with its first call; HttpURLConnection sends HTTP/1.1 and nothing else.
 */
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

public class JavaCheck {
    public static void main(String[] arguments) throws Exception {
        URI address = URI.create(arguments[0] + "/execute?api-version=2.0&details=true");
        String key = "Bearer " + arguments[1];
        String body = Files.readString(Path.of(arguments[2]));

        HttpRequest request = HttpRequest.newBuilder(address)
            .header("Authorization", key)
            .header("Content-Type", "text/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println("HttpClient " + answer.statusCode() + " " + answer.body());

        HttpURLConnection connection = (HttpURLConnection) address.toURL().openConnection();
        connection.setRequestMethod("POST");
        connection.setDoOutput(true);
        connection.setRequestProperty("Authorization", key);
        connection.setRequestProperty("Content-Type", "application/json");
        connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        String text = new String(connection.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        System.out.println("HttpURLConnection " + connection.getResponseCode() + " " + text);
    }
}
