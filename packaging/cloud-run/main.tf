# A Cloud Run job, started every night by Cloud Scheduler, with the roles it needs and no more.
#   terraform init && terraform apply -var project=… -var image=… -var raw_bucket=… -var flattened_bucket=… -var dataset=…
#   printf %s "$SAMSARA_API_TOKEN" | gcloud secrets versions add samsara-api-token --data-file=-
terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

variable "project" { type = string }
variable "image" { type = string }
variable "raw_bucket" { type = string }
variable "flattened_bucket" { type = string }
variable "dataset" { type = string }
variable "region" {
  type    = string
  default = "europe-west1"
}
variable "bigquery_location" {
  type    = string
  default = "EU"
}
variable "schedule" {
  type    = string
  default = "15 2 * * *"
}

provider "google" {
  project = var.project
  region  = var.region
}

resource "google_service_account" "etl" {
  account_id   = "samsara-etl"
  display_name = "samsara-etl"
}

resource "google_storage_bucket" "data" {
  for_each                    = toset([var.raw_bucket, var.flattened_bucket])
  name                        = each.value
  location                    = var.bigquery_location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # What killed uploads leave is invisible and billed.
  lifecycle_rule {
    action { type = "AbortIncompleteMultipartUpload" }
    condition { age = 7 }
  }
}

resource "google_storage_bucket_iam_member" "data" {
  for_each = google_storage_bucket.data
  bucket   = each.value.name
  role     = "roles/storage.objectUser"
  member   = google_service_account.etl.member
}

resource "google_bigquery_dataset" "tables" {
  dataset_id = var.dataset
  location   = var.bigquery_location
}

resource "google_bigquery_dataset_iam_member" "tables" {
  dataset_id = google_bigquery_dataset.tables.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.etl.member
}

resource "google_project_iam_member" "jobs" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.etl.member
}

resource "google_secret_manager_secret" "token" {
  secret_id = "samsara-api-token"
  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_iam_member" "token" {
  secret_id = google_secret_manager_secret.token.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.etl.member
}

resource "google_cloud_run_v2_job" "etl" {
  name                = "samsara-etl"
  location            = var.region
  deletion_protection = false
  template {
    # The lock in the raw bucket keeps runs apart as well.
    parallelism = 1
    task_count  = 1
    template {
      service_account = google_service_account.etl.email
      timeout         = "21600s"
      max_retries     = 1
      containers {
        image = var.image
        args  = ["run", "--wait"]
        resources {
          limits = { cpu = "2", memory = "2Gi" }
        }
        env {
          name = "SAMSARA_API_TOKEN"
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.token.secret_id
              version = "latest"
            }
          }
        }
        env {
          name  = "GCS_BUCKET_NAME"
          value = var.raw_bucket
        }
        env {
          name  = "GCS_BUCKET_FLATTENED_NAME"
          value = var.flattened_bucket
        }
        env {
          name  = "DWH_ID"
          value = var.dataset
        }
        env {
          name  = "GOOGLE_CLOUD_PROJECT"
          value = var.project
        }
        env {
          name  = "BIGQUERY_LOCATION"
          value = var.bigquery_location
        }
      }
    }
  }
  depends_on = [google_secret_manager_secret_iam_member.token]
}

resource "google_service_account" "scheduler" {
  account_id   = "samsara-etl-scheduler"
  display_name = "Starts samsara-etl"
}

resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  name     = google_cloud_run_v2_job.etl.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member
}

resource "google_cloud_scheduler_job" "nightly" {
  name      = "samsara-etl"
  schedule  = var.schedule
  time_zone = "Etc/UTC"
  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.etl.id}:run"
    oauth_token {
      service_account_email = google_service_account.scheduler.email
    }
  }
}
