/*---
title = "Completeness of the newest day"
question = "Can the other tiles be trusted? Members are the vehicles or drivers that have rows, of those that are listed."
chart = "table"
columns = [
  ["table_name", "Table"],
  ["day", "Day"],
  ["row_count", "Rows"],
  ["members", "With rows"],
  ["listed_members", "Listed"],
  ["completeness_percent", "Complete", "%"],
  ["last_read_time", "Read at"],
]
---*/
SELECT table_name, day, row_count, members, listed_members, completeness_percent, last_read_time
FROM samsara.data_quality
WHERE day = (SELECT MAX(day) FROM samsara.data_quality)
ORDER BY table_name
