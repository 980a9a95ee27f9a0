plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "org.lorarar.app"
    compileSdk = 36

    defaultConfig {
        applicationId = "org.lorarar.app"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(
                getDefaultProguardFile("proguard-android-optimize.txt"),
                "proguard-rules.pro",
            )
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    // Written by: python android_demo/build.py --no-runtime
    sourceSets["main"].assets.srcDir("../build/assets")
    androidResources { noCompress += listOf("pte", "safetensors") }
    // Libraries stay in the APK, aligned to 16 KB pages; a phone maps them from there.
    packaging { jniLibs { useLegacyPackaging = false } }

    testOptions { unitTests.all { it.systemProperty("lorarar.vectors", "$rootDir/build/vectors") } }
}

dependencies {
    implementation(libs.executorch.android)
    testImplementation(libs.junit)
}
