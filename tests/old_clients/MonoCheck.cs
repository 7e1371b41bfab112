/*
 * Run by hand, with Mono: the classes of the .NET Framework that azuremlps and the samples of the cloud service's time
 * used, against a running server.
 *
 *     azureml-classic-server --data-dir /tmp/data --port 8080 &
 *     mcs -r:System.Net.Http -r:System.Web.Extensions -r:Microsoft.CSharp -out:/tmp/check.exe \
 *         tests/old_clients/MonoCheck.cs
 *     mono /tmp/check.exe URL WORKSPACE TOKEN data/hours.csv
 *
 * Needs Debian's mono-mcs, libmono-system-net-http4.0-cil and libmono-system-web-extensions4.0-cil. URL, workspace and
 * token are in connection.json; the last argument is a CSV file for "Bike Rental" in the server's own store. It lists
 * web services, adds an endpoint, trains, puts the model in place, scores with HttpWebRequest (a byte order mark, and
 * waiting for 100), refreshes twice and deletes. JavaScriptSerializer refuses a null where a class has bool or int.
 */
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text;
using System.Threading;
using System.Web.Script.Serialization;

public class Service
{
    public string Id { get; set; }
    public string Name { get; set; }
    public int EndpointCount { get; set; }
}

public class Resource
{
    public string Name { get; set; }
    public string Kind { get; set; }
}

public class Endpoint
{
    public string Name { get; set; }
    public string PrimaryKey { get; set; }
    public string SecondaryKey { get; set; }
    public string ApiLocation { get; set; }
    public bool PreventUpdate { get; set; }
    public bool SampleDataEnabled { get; set; }
    public int MaxConcurrentCalls { get; set; }
    public Resource[] Resources { get; set; }
}

public static class MonoCheck
{
    private const string Row =
        @"{""Inputs"":{""input1"":[{""season"":1,""yr"":0,""mnth"":1,""hr"":0,""holiday"":0,""weekday"":6,
        ""workingday"":0,""weathersit"":1,""temp"":0.24,""atemp"":0.2879,""hum"":0.81,""windspeed"":0}]}}";

    private static readonly JavaScriptSerializer Json = new JavaScriptSerializer();

    public static void Main(string[] arguments)
    {
        string services = arguments[0] + "/workspaces/" + arguments[1] + "/webservices", token = arguments[2];
        var ids = Json.Deserialize<Service[]>(Send("GET", token, services, null)).ToDictionary(s => s.Name, s => s.Id);
        var trainer = Json.Deserialize<Endpoint[]>(Send("GET", token, services + "/" + ids["Bike Rental"] + "/endpoints", null))[0];
        string one = services + "/" + ids["Bike Rental [predictive exp.]"] + "/endpoints/monocheck";
        var wanted = new { Description = "by Mono", ThrottleLevel = "High", MaxConcurrentCalls = (int?)null, PreventUpdate = false };
        Send("PUT", token, one, Json.Serialize(wanted));
        var scorer = Json.Deserialize<Endpoint>(Send("GET", token, one, null));
        Console.WriteLine(Score(scorer.ApiLocation, scorer.PrimaryKey));

        dynamic location = Train(trainer, arguments[3]);
        Console.WriteLine(new WebClient().DownloadData((string)(location["BaseLocation"] + location["RelativeLocation"] + location["SasBlobToken"])).Length + " bytes");
        var resource = new Dictionary<string, object> { { "Name", scorer.Resources[0].Name }, { "Location", location } };
        Send("PATCH", scorer.PrimaryKey, one, Json.Serialize(new { Resources = new[] { resource } }));
        Console.WriteLine(Score(scorer.ApiLocation, scorer.SecondaryKey));
        Send("POST", token, one + "/refresh", "{\"OverwriteResources\": \"True\"}");
        Send("POST", token, one + "/refresh", "{\"OverwriteResources\": \"True\"}");
        Send("DELETE", token, one, null);
    }

    private static object Train(Endpoint trainer, string data)
    {
        string submit = trainer.ApiLocation + "/jobs?api-version=2.0";
        var body = new { GlobalParameters = new Dictionary<string, string> { { "URI", data } } };
        string id = Send("POST", trainer.PrimaryKey, submit, Json.Serialize(body)).Replace("\"", "");
        string job = "jobs/" + id;
        Send("POST", trainer.PrimaryKey, submit.Replace("jobs?", job + "/start?"), "");
        while (true)
        {
            dynamic state = Json.Deserialize<object>(Send("GET", trainer.PrimaryKey, submit.Replace("jobs?", job + "?"), null));
            string status = state["StatusCode"];
            if (status == "Finished") return state["Results"]["output1"];
            if (status != "NotStarted" && status != "Running") throw new Exception(status + ": " + state["Details"]);
            Thread.Sleep(500);
        }
    }

    private static string Score(string api, string key)
    {
        var request = (HttpWebRequest)WebRequest.Create(api + "/execute?api-version=2.0&format=swagger");
        request.Method = "POST";
        request.ContentType = "application/json";
        request.Headers.Add("Authorization", "Bearer " + key);
        request.ServicePoint.Expect100Continue = true;
        using (var writer = new StreamWriter(request.GetRequestStream(), Encoding.UTF8)) writer.Write(Row);
        using (var reader = new StreamReader(request.GetResponse().GetResponseStream())) return reader.ReadToEnd();
    }

    private static string Send(string method, string key, string url, string body)
    {
        var client = new HttpClient();
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
        client.DefaultRequestHeaders.Add("x-ms-metaanalytics-authorizationtoken", key);
        var request = new HttpRequestMessage(new HttpMethod(method), url);
        if (body != null) request.Content = new StringContent(body, Encoding.ASCII, "application/json");
        var answer = client.SendAsync(request).Result;
        string text = answer.Content.ReadAsStringAsync().Result;
        Console.WriteLine(method + " " + (int)answer.StatusCode);
        if ((int)answer.StatusCode >= 400) throw new Exception(text);
        return text;
    }
}
