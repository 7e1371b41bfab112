# Run by hand, with R 3 or newer: what the R package `AzureML` does with a workspace, against a running server.
#
#     azureml-classic-server --data-dir /tmp/data --port 8080 &
#     Rscript tests/old_clients/r_check.R /tmp/data/connection.json
#
# Needs Debian's r-cran-httr, r-cran-jsonlite and r-cran-rcurl. It lists services and endpoints, reads the API document
# below HelpLocation (where the package looks for the types of the answer's columns), scores a data frame in the
# list-of-objects form and a row in the table form, as the samples with RCurl did, and cuts out the help page's sample.
library(httr)
library(jsonlite)

connection <- fromJSON(commandArgs(TRUE)[1])
base <- sprintf("%s/workspaces/%s/webservices", connection$management_url, connection$workspace_id)
headers <- add_headers(
  `User-Agent` = "R", `Content-Type` = "application/json;charset=UTF8", `x-ms-client-session-id` = "DefaultSession",
  `x-ms-metaanalytics-authorizationtoken` = connection$token, Authorization = paste("Bearer ", connection$token),
  Accept = "application/json"
)
read <- function(answer) {
  stop_for_status(answer)
  fromJSON(rawToChar(answer$content))
}

services <- read(GET(base, headers))
print(services[, c("Name", "EndpointCount")])
service <- services$Id[services$Name == "Bike Rental [predictive exp.]"]
endpoints <- read(GET(sprintf("%s/%s/endpoints", base, service), headers))
stopifnot(ncol(endpoints) >= 13)
execute <- paste0(endpoints$ApiLocation[1], "/execute?api-version=2.0")
auth <- paste("Bearer", endpoints$PrimaryKey[1])

document <- read(GET(paste(endpoints$HelpLocation[1], "apidocument", sep = "/")))
types <- sapply(document$definitions$output1Item$properties, function(column) column$type)
path <- grep("/execute\\?", names(document$paths), value = TRUE)
stopifnot(length(path) == 1, names(document$paths[[2]]) == "post")

rows <- data.frame(
  season = c(1, 3), yr = 0, mnth = 1, hr = c(0, 8), holiday = 0, weekday = 6, workingday = 0, weathersit = 1,
  temp = c(0.24, 0.7), atemp = 0.2879, hum = 0.81, windspeed = 0
)
body <- list(Inputs = list(input1 = rows), GlobalParameters = setNames(list(), character(0)))
answer <- read(POST(
  paste0(execute, "&details=true&format=swagger"), add_headers(Authorization = auth), content_type_json(),
  body = toJSON(body, auto_unbox = TRUE, digits = 16)
))
scored <- data.frame(answer$Results$output1)
for (column in which(types == "number")) scored[, column] <- as.numeric(scored[, column])
print(scored)

gatherer <- RCurl::basicTextGatherer()
table <- list(ColumnNames = names(rows), Values = list(as.character(unlist(rows[1, ]))))
sent <- list(Inputs = list(input1 = table), GlobalParameters = list())  # an empty list is [] here
RCurl::curlPerform(
  url = execute, httpheader = c("Content-Type" = "application/json", Authorization = auth),
  postfields = enc2utf8(as.character(toJSON(sent))), writefunction = gatherer$update
)
print(gatherer$value())

page <- readLines(url(paste(endpoints$HelpLocation[1], "score", sep = "/")), warn = FALSE)
page <- paste(gsub("<[^>]*>", "", page), collapse = "\n")
stopifnot(grepl("library(httr)", page, fixed = TRUE))
