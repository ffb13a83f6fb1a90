/*---
description = "Answers in forms, one row per form and field."
partition_by = "createdAtTime"
cluster_by = ["form_submission_id"]
unique_key = ["form_submission_id", "id"]
---*/
SELECT DISTINCT
  form_submission_id,                                 -- the form; joins form_submissions.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the form was made
  item['id'] AS id,                                   -- Samsara's id of the field; joins form_templates_fields.id
  item['label'] AS label,                             -- what was asked
  item['type'] AS type,                               -- kind of the answer, such as number, text, multiple_choice or media
  item['note'] AS note,                               -- a remark about the answer
  item['issue']['id'] AS issue_id,                    -- the issue that was made of it; joins issues.id
  to_json(item['issue']['externalIds']) AS issue_externalIds, -- all external ids of the issue, as JSON text
  item['textValue']['value'] AS textValue_value,      -- the answer, if it is a text
  item['numberValue']['value'] AS numberValue_value,  -- if it is a number
  item['multipleChoiceValue']['value'] AS multipleChoiceValue_value, -- if it is one of several: its text
  item['multipleChoiceValue']['valueId'] AS multipleChoiceValue_valueId, -- and its id
  item['checkBoxesValue']['value'] AS checkBoxesValue_value, -- if it is some of several: their texts, as JSON text
  item['checkBoxesValue']['valueIds'] AS checkBoxesValue_valueIds, -- and their ids, as JSON text
  item['dateTimeValue']['type'] AS dateTimeValue_type, -- if it is a time: datetime, date or time
  item['dateTimeValue']['value'] AS dateTimeValue_value, -- the time as it was sent
  item['dateTimeValue']['dateValue'] AS dateTimeValue_dateValue, -- the date as it was sent
  item['personValue'] AS personValue,                 -- if it is a person, as JSON text
  item['assetValue'] AS assetValue,                   -- if it is an asset, as JSON text
  item['geofenceValue'] AS geofenceValue,             -- if it is an address, as JSON text
  item['signatureValue'] AS signatureValue,           -- if it is a signature, as JSON text; its address expires
  item['mediaValue'] AS mediaValue,                   -- if it is photos or videos, as JSON text; their addresses expire
  item['mediaList'] AS mediaList,                     -- photos and videos beside the answer, as JSON text; their addresses expire
  item['barcodeValue'] AS barcodeValue,               -- if it is barcodes, as JSON text
  item['tableValue'] AS tableValue                    -- if it is a table, as JSON text
FROM (
  SELECT id AS form_submission_id, createdAtTime, unnest(fields) AS item
  FROM raw.form_submissions
)
